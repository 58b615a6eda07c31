"""The compact NPU on a line of bytes, which takes a job's commands as they are encoded.

`rtl/serial_commands.sv` says what goes over the line; the test bench of the bare cores
(`simulate/npu_bench.cpp`) understands the same.
"""

import struct
from typing import Protocol

from edgekit_fpga.boards import COMPACT, Board
from edgekit_fpga.driver.job import WORD_BYTES, Job, Load, Read, Run, granule_words
from edgekit_fpga.driver.line import SerialLine
from edgekit_fpga.driver.npu import Done, Host, check_identity, endless, refused
from edgekit_fpga.errors import BoardError

IDENTIFY = struct.pack("<I", 3)
REFUSED, ENDLESS = 1, 2


class Line(Protocol):
    """A line of bytes with flow control."""

    def write(self, data: bytes, /) -> object:
        """Send bytes."""
        ...

    def read(self, size: int = ..., /) -> bytes:
        """Take `size` bytes."""
        ...

    def close(self) -> None:
        """Let go of the line."""
        ...


class CommandedNpu(Host):
    """An NPU at the end of a line.

    Args:
        line: open, and at the beginning of a command.
    """

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    @classmethod
    def open(cls, device: str, baud: int) -> "CommandedNpu":
        """The NPU behind a serial device of this machine; begins with a break, which resets it.

        Args:
            device: as in `/dev/ttyUSB0`; RTS and CTS are connected.
            baud: bits a second.

        Raises:
            LinkError: the device does not open, another program has it, or nothing answers.
            DeviceError: what answers is no NPU, or of another version.
        """
        line = SerialLine(device, baud, flow_control=True)
        try:
            line.send_break()
            line.reset_input_buffer()
            line.write(IDENTIFY)
            identity, version, _array = struct.unpack("<3I", line.read(3 * WORD_BYTES))
            check_identity(identity, version)
        except BaseException:
            line.close()
            raise
        return cls(line)

    def check(self, board: Board) -> None:
        """See that what was compiled for `board` runs here; its memories are those of one part."""
        if board.array.core != COMPACT:
            raise BoardError(
                f"the package is for {board.name}, the NPU here is the compact one",
                "compile the model for this board: edgekit fpga compile --board",
            )

    def carry_out(self, job: Job) -> Done:
        """Do a job's commands one after the other."""
        spent, words = [], []
        for command in job.commands:
            self._line.write(command.encode())
            if isinstance(command, Load):
                continue
            if isinstance(command, Run):
                spent.append(self._run_answer(command))
            else:
                assert isinstance(command, Read)
                size = WORD_BYTES * granule_words(job.board) * command.count
                words.append(self._line.read(size))
        return Done(tuple(spent), b"".join(words))

    def close(self) -> None:
        """Let go of the line."""
        self._line.close()

    def _run_answer(self, run: Run) -> int:
        error, cycles, layers = struct.unpack("<3I", self._line.read(3 * WORD_BYTES))
        if layers:  # a simulator tells when each began
            self._line.read(2 * WORD_BYTES * layers)
        if error == REFUSED:
            raise refused()
        if error == ENDLESS:
            raise endless(run.limit)
        return int(cycles)
