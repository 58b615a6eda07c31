"""Runs packages on the NPU's RTL in Verilator: outputs bit for bit, cycles as hardware takes."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from edgekit_fpga.cpu import run_stage
from edgekit_fpga.package import Package
from edgekit_fpga.running import check_inputs, from_stored, to_stored
from edgekit_fpga.simulate.errors import SimulationError
from edgekit_fpga.simulate.npu import Measurement, measure

__all__ = ["Measurement", "SimulationError", "measure", "run"]


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
    values = check_inputs(package, inputs)
    run_stage(package.before, values)
    npu, tensors = package.manifest["npu"], package.manifest["tensors"]
    stored = {
        name: to_stored(values[name], tensors[name]["shape"], tensors[name]["type"])
        for name in npu["inputs"]
    }
    made = measure(package.program, package.board, stored, tuple(npu["outputs"]))
    for name, value in made.tensors.items():
        values[name] = from_stored(value, tensors[name])
    run_stage(package.after, values)
    return {name: values[name] for name in package.manifest["outputs"]}, made.cycles
