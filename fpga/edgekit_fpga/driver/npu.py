"""An NPU as a host sees it: whether a package fits it, and jobs carried out on it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga import isa
from edgekit_fpga.boards import Board
from edgekit_fpga.cycles import cycles, link_cycles
from edgekit_fpga.driver.job import Job, Load, Read, Run, granule_words, streams_weights
from edgekit_fpga.driver.port import BUSY, ERROR, ID, DeviceError, Port, Register
from edgekit_fpga.errors import BoardError
from edgekit_fpga.program import Program

Int8 = NDArray[np.int8]
MOST_CYCLES = (1 << 32) - 1  # that a run's limit says in its 32 bits


@dataclass(frozen=True)
class Done:
    """What a job gave: the cycles of each of its runs, the words of all its reads."""

    cycles: tuple[int, ...]
    words: bytes


class Host(ABC):
    """Runs programs on one NPU, and knows which it has loaded."""

    def __init__(self) -> None:
        self._program: Program | None = None

    @abstractmethod
    def check(self, board: Board) -> None:
        """See that what was compiled for `board` runs here.

        Raises:
            BoardError: another array, or smaller memories.
        """

    @abstractmethod
    def carry_out(self, job: Job) -> Done:
        """Do a job's commands one after the other.

        Raises:
            DeviceError: the NPU refused the program, or did not end it.
            LinkError: the link is broken.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the link."""

    def run(
        self, program: Program, board: Board, inputs: Mapping[str, Int8], outputs: tuple[str, ...]
    ) -> tuple[dict[str, Int8], tuple[int, ...]]:
        """Run a program on a batch; it is loaded first where the NPU has another.

        Args:
            program: what to run.
            board: the board it was compiled for.
            inputs: tensor name -> stored int8 (N, C, H, W).
            outputs: the tensors to read when a run is done.

        Returns:
            Tensor name -> int8 (N, C, H, W), and the cycles of each element, start to done.

        Raises:
            BoardError: the program is for another array.
            DeviceError: as `carry_out`.
        """
        if self._program is not program:
            self.check(board)
            self._program = None  # a load that breaks off leaves neither the old nor the new
            job = Job(board)
            job.load_program(program)
            if not streams_weights(program):
                job.load_weights(program)
            self.carry_out(job)
            self._program = program
        batch = len(next(iter(inputs.values())))
        made: dict[str, list[Int8]] = {name: [] for name in outputs}
        spent: list[int] = []
        for element in range(batch):
            job = Job(board)
            if streams_weights(program):
                job.load_weights(program)
            for name, value in inputs.items():
                job.write_tensor(program.placements[name], value[element])
            job.run(program, cycle_limit(program, board))
            sizes = [job.read_tensor(program.placements[name]) for name in outputs]
            done = self.carry_out(job)
            spent.extend(done.cycles)
            words = done.words
            for name, size in zip(outputs, sizes, strict=True):
                part, words = words[: 4 * size], words[4 * size :]
                made[name].append(job.tensor_of(program.placements[name], part))
        return {name: np.stack(values) for name, values in made.items()}, tuple(spent)


class Npu(Host):
    """An NPU behind its registers and streams, that answered for itself.

    Args:
        port: its registers and streams; closed again where this is no NPU.

    Raises:
        DeviceError: what answers is no NPU, or of another version.
        LinkError: nothing answers.
    """

    def __init__(self, port: Port) -> None:
        super().__init__()
        self._port = port
        try:
            self._identify()
        except BaseException:
            port.close()
            raise

    def _identify(self) -> None:
        port = self._port
        check_identity(port.read(Register.ID), port.read(Register.VERSION))
        array, shape = port.read(Register.ARRAY), port.read(Register.SHAPE)
        self._equal = {
            "reduction_lanes": array & 0xFF,
            "output_lanes": array >> 8 & 0xFF,
            "banks": shape & 0xFF,
        }
        self._at_least = {
            "window_taps": shape >> 8 & 0xFF,
            "patch_bytes": shape >> 16,
            "activation_granules": port.read(Register.GRANULES),
            "weight_words": port.read(Register.WEIGHT_WORDS),
            "requant_tiles": port.read(Register.REQUANT_TILES),
            "table_entries": port.read(Register.TABLE_ENTRIES),
            "instructions": port.read(Register.INSTRUCTIONS),
        }

    def check(self, board: Board) -> None:
        """See that what was compiled for `board` runs here."""
        wanted = {**vars(board.array), **vars(board.memory)}
        for name, here in {**self._equal, **self._at_least}.items():
            fits = here >= wanted[name] if name in self._at_least else here == wanted[name]
            if not fits:
                raise BoardError(
                    f"the package is for {board.name} with {name} {wanted[name]}, "
                    f"the NPU here has {here}",
                    "compile the model for this board: edgekit fpga compile --board",
                )

    def close(self) -> None:
        """Let go of the link."""
        self._port.close()

    def carry_out(self, job: Job) -> Done:
        """Do a job's commands one after the other."""
        port, words, spent = self._port, [], []
        for command in job.commands:
            if isinstance(command, Load):
                port.write(Register.TARGET, command.memory)
                port.write(Register.TARGET_ADDRESS, command.address)
                port.send(command.data)
            elif isinstance(command, Run):
                self._start_and_wait(command)
                spent.append(port.read(Register.CYCLES))
            else:
                assert isinstance(command, Read)
                port.write(Register.READ_ADDRESS, command.address)
                port.write(Register.READ_COUNT, command.count)
                words.append(port.receive(command.count * granule_words(job.board)))
        return Done(tuple(spent), b"".join(words))

    def _start_and_wait(self, run: Run) -> None:
        port = self._port
        port.write(Register.CONTROL, 1)
        if run.data:
            port.send(run.data)
        # a slow link makes the NPU wait for its weights: that time is not the program's
        begin = port.read(Register.CYCLES)
        while (status := port.read(Register.STATUS)) & BUSY:
            if port.read(Register.CYCLES) - begin > run.limit:
                raise endless(run.limit)
        if status & ERROR:
            raise refused()


def check_identity(identity: int, version: int) -> None:
    """See that an NPU of this release answers.

    Raises:
        DeviceError: it does not.
    """
    if identity != ID:
        raise DeviceError(
            f"no NPU answers on the link: its id reads {identity:#010x}, not {ID:#010x}",
            "check the device's name and speed, and that the bitstream is loaded",
        )
    if version != isa.ISA_VERSION:
        raise DeviceError(
            f"the NPU has instruction set {version}, this is {isa.ISA_VERSION}",
            "load the bitstream that belongs to this release: edgekit fpga synth",
        )


def refused() -> DeviceError:
    """The NPU said that a program is none."""
    return DeviceError("the NPU refused the program", "compile the model again")


def endless(limit: int) -> DeviceError:
    """A program that took too long."""
    return DeviceError(f"the NPU did not end the program in {limit} cycles", "reset the board")


def cycle_limit(program: Program, board: Board) -> int:
    """More cycles than the program can take: four times its own and the link's."""
    words = sum(step.count for step in program.instructions if isinstance(step, isa.Load))
    estimate = sum(cycles(step, board.array) for step in program.instructions)
    link = link_cycles(words * board.array.word_bytes, board)
    return min(1000 + 4 * (estimate + link), MOST_CYCLES)
