"""Runs packages on the NPU's RTL in Verilator: outputs bit for bit, cycles as hardware takes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga.comparing import Comparison, held_against, interpreted
from edgekit_fpga.package import Package
from edgekit_fpga.running import from_stored, run_pipeline
from edgekit_fpga.simulate.errors import SimulationError
from edgekit_fpga.simulate.npu import Measurement, layers, measure, simulated

Int8 = NDArray[np.int8]

__all__ = [
    "Measurement",
    "SimulationError",
    "compare",
    "layers",
    "measure",
    "observed",
    "run",
    "simulated",
]


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
    cycles: tuple[int, ...] = ()

    def npu(stored: Mapping[str, Int8]) -> Mapping[str, Int8]:
        nonlocal cycles
        made = _outputs(package, stored)
        cycles = made.cycles
        return made.tensors

    return run_pipeline(package, inputs, npu), cycles


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
    tensors = package.manifest["tensors"]
    found: dict[str, NDArray[Any]] = {}

    def npu(stored: Mapping[str, Int8]) -> Mapping[str, Int8]:
        runs = [
            layers(
                package.program, package.board, {name: v[i : i + 1] for name, v in stored.items()}
            )
            for i in range(len(next(iter(stored.values()))))
        ]
        for name in runs[0]:
            found[name] = from_stored(np.concatenate([one[name] for one in runs]), tensors[name])
        return _outputs(package, stored).tensors

    outputs = run_pipeline(package, inputs, npu)
    return found | outputs


def _outputs(package: Package, stored: Mapping[str, Int8]) -> Measurement:
    """What the whole program makes of the NPU's inputs."""
    outputs = tuple(package.manifest["npu"]["outputs"])
    return measure(package.program, package.board, stored, outputs)
