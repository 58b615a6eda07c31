"""The NPU's RTL in Verilator: a program's tensors in, tensors and measured cycles out."""

import dataclasses
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga import isa, rtl
from edgekit_fpga.boards import AXI, COMPACT, Board, Link
from edgekit_fpga.driver.job import PROGRAM, Job, streams_weights
from edgekit_fpga.driver.npu import cycle_limit
from edgekit_fpga.errors import BoardError
from edgekit_fpga.program import Program
from edgekit_fpga.simulate.errors import SimulationError
from edgekit_fpga.simulate.verilator import build

Int8 = NDArray[np.int8]
RUN_TIMEOUT = 900.0
STREAM = Link(AXI)  # how `npu_bench.cpp` brings the weights of LOADs: a word a cycle
CLOCKS_PER_BIT = 8  # of the serial line that `serial_bench.cpp` is the end of


def simulated(board: Board) -> Board:
    """The board as it is simulated, for estimates that are held against measured cycles: its
    weights stream in at a word a cycle, whatever its link."""
    return dataclasses.replace(board, link=STREAM)


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


def simulator(board: Board) -> Path:
    """The executable for a board, built if it is not there yet.

    Raises:
        SimulationError: the RTL has no form for it, a tool is missing, or the build failed.
    """
    return _built(board, board.array.core, "npu_bench.cpp")


def port_simulator(board: Board) -> Path:
    """The executable that is a board's NPU behind its registers and streams; see `simulator`."""
    return _built(board, "npu_axi", "port_bench.cpp")


def serial_simulator(board: Board) -> Path:
    """The executable that is a board's NPU behind its serial line; see `simulator`."""
    top = "npu_compact_serial" if board.array.core == COMPACT else "npu_serial"
    return _built(board, top, "serial_bench.cpp", CLOCKS_PER_BIT=CLOCKS_PER_BIT)


def _built(board: Board, top: str, bench: str, **more: int) -> Path:
    try:
        given = rtl.parameters(board) | more
    except BoardError as error:
        raise SimulationError(str(error), error.hint) from error
    text = resources.files(__package__).joinpath(bench).read_text(encoding="utf-8")
    return build(top, rtl.sources(), text, given)


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
    job, sizes = Job(board), [0]
    job.load_program(program)
    for element in range(batch):
        if element == 0 or streams_weights(program):
            job.load_weights(program)
        for name, value in inputs.items():
            job.write_tensor(program.placements[name], value[element])
        job.run(program, cycle_limit(program, board))
        sizes = [job.read_tensor(program.placements[name]) for name in outputs]
    answer = Answer(_answer(simulator(board), job.encode()))
    tensors: dict[str, list[Int8]] = {name: [] for name in outputs}
    spent, starts = [], []
    for _ in range(batch):
        taken, layers = answer.run()
        spent.append(taken)
        starts.append(layers)
        for name, size in zip(outputs, sizes, strict=True):
            words = answer.words(size)
            tensors[name].append(job.tensor_of(program.placements[name], words))
    stacked = {name: np.stack(values) for name, values in tensors.items()}
    return Measurement(stacked, tuple(spent), starts[0])


def layers(program: Program, board: Board, inputs: Mapping[str, Int8]) -> dict[str, Int8]:
    """Every tensor that an instruction leaves in memory, by the name its trace gives it.

    The program is run again and again, one instruction further each time, because later layers
    may write over what earlier ones made. Arguments and errors as `measure`; one array (1, C, H, W)
    for each tensor, from inputs with a batch of one.
    """
    job, wanted = Job(board), []
    job.load_program(program)
    traces = iter(program.traces)
    for index, step in enumerate(program.instructions):
        if not isinstance(step, isa.Layer):
            continue
        trace = next(traces)
        name = trace.pool or trace.add or trace.table or trace.own
        if name not in program.placements:
            continue
        part = dataclasses.replace(
            program, instructions=(*program.instructions[: index + 1], isa.End())
        )
        job.load(PROGRAM, 0, isa.encode_program(part.instructions))
        job.load_weights(program)
        for source, value in inputs.items():
            job.write_tensor(program.placements[source], value[0])
        job.run(part, cycle_limit(program, board))
        wanted.append((name, job.read_tensor(program.placements[name])))
    answer = Answer(_answer(simulator(board), job.encode()))
    made = {}
    for name, size in wanted:
        answer.run()
        made[name] = job.tensor_of(program.placements[name], answer.words(size))[None]
    return made


class Answer:
    """The bench's answers, taken one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def words(self, count: int) -> bytes:
        """The next 32-bit words.

        Raises:
            SimulationError: the simulator stopped before it gave them.
        """
        part = self._data[self._position : self._position + 4 * count]
        if len(part) < 4 * count:
            raise SimulationError("the simulator stopped before its answer was complete")
        self._position += 4 * count
        return part

    def run(self) -> tuple[int, tuple[tuple[int, int], ...]]:
        """A run's cycles, and instruction index and first cycle of each of its layers.

        Raises:
            SimulationError: the NPU refused the program, or did not end it.
        """
        error, cycles_taken, count = struct.unpack("<3I", self.words(3))
        if error:
            what = "refused the program" if error == 1 else "did not end the program in time"
            raise SimulationError(f"the simulated NPU {what}")
        numbers = struct.unpack(f"<{2 * count}I", self.words(2 * count))
        return cycles_taken, tuple(zip(numbers[::2], numbers[1::2], strict=True))


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
