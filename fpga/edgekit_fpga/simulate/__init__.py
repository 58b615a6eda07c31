"""Runs packages on the NPU's RTL in Verilator: outputs bit for bit, cycles as hardware takes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga.comparing import Comparison, held_against, interpreted
from edgekit_fpga.cpu import run_stage
from edgekit_fpga.package import Package
from edgekit_fpga.running import check_inputs, from_stored, to_stored
from edgekit_fpga.simulate.errors import SimulationError
from edgekit_fpga.simulate.npu import Measurement, layers, measure

__all__ = ["Measurement", "SimulationError", "compare", "layers", "measure", "observed", "run"]


def run(
    package: Package, inputs: Mapping[str, NDArray[Any]]
) -> tuple[dict[str, NDArray[Any]], tuple[int, ...]]:
    """Run a batch through the package's pipeline, its NPU stage in the RTL.

    Args:
        package: the compiled model.
        inputs: by the graph's input names, shape (N, ...) and dtype as the graph says.

    Returns:
        The graph's outputs by name, and the NPU's cycles for each element of the batch.

    Raises:
        InputError: as `edgekit_fpga.running.run`.
        SimulationError: no simulator can be built, or a run did not end.
    """
    values, stored = _stored(package, inputs)
    npu, tensors = package.manifest["npu"], package.manifest["tensors"]
    made = measure(package.program, package.board, stored, tuple(npu["outputs"]))
    for name, value in made.tensors.items():
        values[name] = from_stored(value, tensors[name])
    run_stage(package.after, values)
    return {name: values[name] for name in package.manifest["outputs"]}, made.cycles


def compare(package: Package, inputs: Mapping[str, NDArray[Any]]) -> Comparison:
    """Hold the RTL against the interpreter's integers, bit by bit, on every tensor in memory.

    Arguments and errors as `run`.
    """
    reference = interpreted(package, inputs, exact=True)
    made = observed(package, inputs)
    return held_against({name: reference[name] for name in made}, made, package)


def observed(package: Package, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Every tensor that a layer leaves in the RTL's memory, and the package's outputs, by name.

    Arguments and errors as `run`.
    """
    _, stored = _stored(package, inputs)
    tensors = package.manifest["tensors"]
    runs = [
        layers(package.program, package.board, {name: v[i : i + 1] for name, v in stored.items()})
        for i in range(len(next(iter(stored.values()))))
    ]
    made = {
        name: from_stored(np.concatenate([one[name] for one in runs]), tensors[name])
        for name in runs[0]
    }
    outputs, _ = run(package, inputs)
    return made | outputs


def _stored(
    package: Package, inputs: Mapping[str, NDArray[Any]]
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.int8]]]:
    """All values after the first CPU stage, and what of them goes into the NPU."""
    values = check_inputs(package, inputs)
    run_stage(package.before, values)
    npu, tensors = package.manifest["npu"], package.manifest["tensors"]
    stored = {
        name: to_stored(values[name], tensors[name]["shape"], tensors[name]["type"])
        for name in npu["inputs"]
    }
    return values, stored
