"""Holds a package against ONNX Runtime, bit by bit, on every tensor both have."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga.errors import GraphError
from edgekit_fpga.interpreter import batches
from edgekit_fpga.package import Package
from edgekit_fpga.running import check_inputs, run
from edgekit_fpga.witness import witness

Array = NDArray[Any]


@dataclass(frozen=True)
class Comparison:
    """How many values were compared and how many differ; `tensors` has both for each tensor."""

    compared: int
    mismatches: int
    tensors: Mapping[str, tuple[int, int]]

    def __add__(self, other: "Comparison") -> "Comparison":
        tensors = dict(self.tensors)
        for name, (size, wrong) in other.tensors.items():
            before = tensors.get(name, (0, 0))
            tensors[name] = (before[0] + size, before[1] + wrong)
        return Comparison(
            self.compared + other.compared, self.mismatches + other.mismatches, tensors
        )


# inputs whose layers are held in memory at a time
PART = 64


def compare(package: Package, model: bytes, inputs: Mapping[str, Array]) -> Comparison:
    """Run package and model on the same inputs and compare every layer's integers.

    Raises:
        PackageError: the package was not made from this model.
        GraphError: ONNX Runtime cannot run the model.
        InputError: as `run`.
    """
    total = Comparison(0, 0, {})
    for part in batches(check_inputs(package, inputs), PART):
        seen = interpreted(package, part)
        total += held_against(witness(package, model, part, list(seen)), seen, package)
    return total


def interpreted(
    package: Package, inputs: Mapping[str, Array], *, exact: bool = False
) -> dict[str, Array]:
    """Every tensor the interpreter makes of a batch, and the package's outputs, by name.

    Arguments and errors as `run`.
    """
    seen: dict[str, Array] = {}
    outputs = run(package, inputs, observe=seen.__setitem__, exact=exact)
    return seen | outputs


def held_against(
    reference: Mapping[str, Array], ours: Mapping[str, Array], package: Package
) -> Comparison:
    """Count the values of every tensor of `reference` that differ in `ours`.

    Raises:
        GraphError: a tensor that has another shape in the two.
    """
    rounded = _behind_float_functions(package)
    tensors = {}
    for name, wanted in reference.items():
        made = ours[name]
        if made.shape != wanted.shape:
            raise GraphError(f"{name} has the shape {made.shape}, its witness {wanted.shape}")
        if name in rounded:
            differs = ~np.isclose(made, wanted, rtol=1e-5, atol=rounded[name])
        else:
            differs = made != wanted
        tensors[name] = (int(wanted.size), int(differs.sum()))
    return Comparison(
        sum(size for size, _ in tensors.values()),
        sum(wrong for _, wrong in tensors.values()),
        tensors,
    )


def _behind_float_functions(package: Package) -> dict[str, float]:
    """Outputs behind an exp on the CPU, and how far numpy and ONNX Runtime may be apart there.

    That is a float's rounding, or one step where the result is quantized again. Every other float
    output is one product of an integer and a scale, and equal in every bit.
    """
    apart: dict[str, float] = {}
    for operation in package.after:
        source = operation.inputs[0]
        if operation.operator == "Softmax":
            apart[operation.output] = 1e-6
        elif source in apart:
            step = 1.0 if operation.operator == "QuantizeLinear" else apart[source]
            if operation.operator == "DequantizeLinear":
                step = 1.001 * float(operation.attributes["scale"])
            apart[operation.output] = step
    return apart
