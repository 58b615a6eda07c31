"""The NPU's RTL in Verilator: a program's tensors in, tensors and measured cycles out."""

import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga import isa, rtl
from edgekit_fpga.boards import Board
from edgekit_fpga.cycles import cycles
from edgekit_fpga.program import Program
from edgekit_fpga.simulate.errors import SimulationError
from edgekit_fpga.simulate.host import Job, streams_weights
from edgekit_fpga.simulate.verilator import build

Int8 = NDArray[np.int8]
RUN_TIMEOUT = 900.0


@dataclass(frozen=True)
class Measurement:
    """What the RTL made of a batch.

    Attributes:
        tensors: name -> int8 (N, C, H, W), as stored in the NPU.
        cycles: from start to done, of every element of the batch.
        layers: instruction index and cycle at which each layer of the first element began.
    """

    tensors: Mapping[str, Int8]
    cycles: tuple[int, ...]
    layers: tuple[tuple[int, int], ...]


def parameters(board: Board) -> dict[str, int]:
    """The parameters of module npu for a board.

    Raises:
        SimulationError: the RTL has no such form yet.
    """
    array, memory = board.array, board.memory
    if array.weight_cycles != 1:
        raise SimulationError(
            f"the RTL reads a weight word a cycle, {board.name} needs {array.weight_cycles}",
            "use --backend interpreter",
        )
    if array.lookups >= array.output_lanes:
        raise SimulationError(f"{board.name}: the RTL needs fewer look-ups than output lanes")
    return {
        "I": array.reduction_lanes,
        "O": array.output_lanes,
        "R": array.requantizers,
        "B": array.banks,
        "L": array.lookups,
        "P": array.patch_bytes,
        "T": array.window_taps,
        "GRANULES": memory.activation_granules,
        "WEIGHT_WORDS": memory.weight_words,
        "REQUANT_TILES": memory.requant_tiles,
        "TABLE_ENTRIES": memory.table_entries,
        "INSTRUCTIONS": memory.instructions,
    }


def simulator(board: Board) -> Path:
    """The executable for a board, built if it is not there yet.

    Raises:
        SimulationError: a tool is missing, or the build failed.
    """
    bench = resources.files(__package__).joinpath("npu_bench.cpp").read_text(encoding="utf-8")
    return build("npu", rtl.sources(), bench, parameters(board))


def measure(
    program: Program, board: Board, inputs: Mapping[str, Int8], outputs: Sequence[str]
) -> Measurement:
    """Run a program on a batch in the RTL.

    Args:
        program: what to run.
        board: the board it was compiled for.
        inputs: tensor name -> stored int8 (N, C, H, W).
        outputs: the tensors to read from activation memory when a run is done.

    Raises:
        SimulationError: the simulator cannot be built, or a run did not end.
    """
    batch = len(next(iter(inputs.values())))
    limit = 1000 + 4 * sum(cycles(step, board.array) for step in program.instructions)
    limit += 2 * sum(
        step.count * board.array.word_bytes // 4
        for step in program.instructions
        if isinstance(step, isa.Load)
    )
    job = Job(board)
    job.load_program(program)
    sizes: list[int] = []
    for element in range(batch):
        if element == 0 or streams_weights(program):
            job.load_weights(program)
        for name, value in inputs.items():
            job.write_tensor(program.placements[name], value[element])
        job.run(program, limit)
        sizes = [job.read_tensor(program.placements[name]) for name in outputs]
    answer = _answer(simulator(board), b"".join(job.commands))
    tensors: dict[str, list[Int8]] = {name: [] for name in outputs}
    spent, layers, position = [], (), 0
    for element in range(batch):
        error, taken, count = struct.unpack_from("<3I", answer, position)
        if error:
            what = "was refused by the NPU" if error == 1 else f"did not end within {limit} cycles"
            raise SimulationError(f"the program {what} (batch element {element})")
        position += 12
        if element == 0:
            numbers = struct.unpack_from(f"<{2 * count}I", answer, position)
            layers = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        position += 8 * count
        spent.append(taken)
        for name, size in zip(outputs, sizes, strict=True):
            words = answer[position : position + 4 * size]
            tensors[name].append(job.tensor_of(program.placements[name], words))
            position += 4 * size
    return Measurement(
        {name: np.stack(values) for name, values in tensors.items()}, tuple(spent), layers
    )


def _answer(program: Path, job: bytes) -> bytes:
    try:
        done = subprocess.run(
            [program], input=job, capture_output=True, timeout=RUN_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SimulationError(f"the simulation took over {RUN_TIMEOUT:.0f} s") from error
    if done.returncode:
        raise SimulationError(f"the simulator failed with exit code {done.returncode}")
    return done.stdout
