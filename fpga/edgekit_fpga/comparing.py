"""Holds a package against ONNX Runtime, bit by bit, on every tensor both have."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga.errors import GraphError, PackageError
from edgekit_fpga.package import Package
from edgekit_fpga.running import run

Array = NDArray[Any]


@dataclass(frozen=True)
class Comparison:
    """How many values were compared and how many differ; `tensors` has both for each tensor."""

    compared: int
    mismatches: int
    tensors: Mapping[str, tuple[int, int]]


def compare(package: Package, model: bytes, inputs: Mapping[str, Array]) -> Comparison:
    """Run package and model on the same inputs and compare every layer's integers.

    Raises:
        PackageError: the package was not made from this model.
        GraphError: ONNX Runtime cannot run the model.
        InputError: as `run`.
    """
    seen = interpreted(package, inputs)
    return held_against(witness(package, model, inputs, list(seen)), seen, package)


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


def witness(
    package: Package, model: bytes, inputs: Mapping[str, Array], names: list[str]
) -> dict[str, Array]:
    """What ONNX Runtime's integer operators give for those of `names` that the model has.

    Raises:
        PackageError: the package was not made from this model.
        GraphError: ONNX Runtime refuses the model.
    """
    if package.manifest["model"] != "sha256:" + hashlib.sha256(model).hexdigest():
        raise PackageError("the package was made from another model", "compile this one")
    import onnx
    import onnxruntime

    proto = onnx.load_model_from_string(model)
    made = {name for node in proto.graph.node for name in node.output}
    known = {value.name for value in proto.graph.output}
    wanted = [name for name in names if name in made]
    proto.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in wanted if name not in known
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    if any(tensor["type"] == "uint8" for tensor in package.manifest["tensors"].values()):
        # without VNNI, uint8 activations by int8 weights saturate in 16 bits; this avoids it, but
        # leaves int8 graphs without a QGemm kernel
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        # some models are exported for a batch of one only
        single = any(entry.shape[0] == 1 for entry in session.get_inputs())
        batch = len(next(iter(inputs.values())))
        size = 1 if single else batch
        runs = [
            session.run(wanted, {name: v[i : i + size] for name, v in inputs.items()})
            for i in range(0, batch, size)
        ]
    except Exception as error:
        # ONNX Runtime raises a class of its own for each of its status codes
        raise GraphError(f"ONNX Runtime cannot run the model: {error}") from error
    return {
        name: np.concatenate([made[index] for made in runs]) for index, name in enumerate(wanted)
    }
