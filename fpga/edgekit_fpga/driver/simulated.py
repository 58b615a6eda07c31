"""Simulated NPUs, each in a process of its own under Verilator."""

import struct
import subprocess
from pathlib import Path

from edgekit_fpga.boards import COMPACT, Board
from edgekit_fpga.driver.commanded import CommandedNpu
from edgekit_fpga.driver.npu import Host, Npu
from edgekit_fpga.driver.port import WORD_BYTES, DeviceError, LinkError, Register
from edgekit_fpga.simulate.npu import port_simulator, simulator

OKAY = 0
WRITE, READ, SEND, RECEIVE = range(4)
END_TIMEOUT = 5.0  # seconds


def start(board: Board) -> Host:
    """The NPU of a board; its simulator is built where it is not there yet.

    Raises:
        SimulationError: a tool is missing, or the build failed.
    """
    if board.array.core == COMPACT:
        return CommandedNpu(SimulatedLine(simulator(board)))
    return Npu(SimulatedPort(port_simulator(board)))


class SimulatedLine:
    """A line of bytes to a simulator and back.

    Args:
        program: the simulator's executable.
    """

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=-1
        )

    def write(self, data: bytes) -> None:
        """Send bytes."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise LinkError("the simulator has ended") from error

    def read(self, size: int = 1) -> bytes:
        """Take `size` bytes."""
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        if len(data) < size:
            raise LinkError("the simulator has ended")
        return data

    def close(self) -> None:
        """End the simulator."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait(END_TIMEOUT)
        self._process.stdout.close()
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            # what was not sent yet is of no use to a simulator that is gone
            return


class SimulatedPort:
    """Speaks the commands of `simulate/port_bench.cpp` with a simulator.

    Args:
        program: the simulator's executable.
    """

    def __init__(self, program: Path) -> None:
        self._line = SimulatedLine(program)

    def read(self, register: Register) -> int:
        """The value of a register."""
        response, value = struct.unpack("<2I", self._ask(struct.pack("<2I", READ, register), 2))
        if response != OKAY:
            raise DeviceError(f"the NPU has no register {register:#04x}")
        return int(value)

    def write(self, register: Register, value: int) -> None:
        """Set a register."""
        (response,) = struct.unpack("<I", self._ask(struct.pack("<3I", WRITE, register, value), 1))
        if response != OKAY:
            raise DeviceError(f"the NPU refuses to set {register.name} to {value:#x}")

    def send(self, data: bytes) -> None:
        """Stream words in."""
        count = len(data) // WORD_BYTES
        (taken,) = struct.unpack("<I", self._ask(struct.pack("<2I", SEND, count) + data, 1))
        if taken != count:
            raise LinkError(f"the NPU took {taken} of {count} words and stopped")

    def receive(self, words: int) -> bytes:
        """Take words of the stream out."""
        (given,) = struct.unpack("<I", self._ask(struct.pack("<2I", RECEIVE, words), 1))
        data = self._take(given)
        if given != words:
            raise LinkError(f"the NPU gave {given} of {words} words and stopped")
        return data

    def close(self) -> None:
        """End the simulator."""
        self._line.close()

    def _ask(self, command: bytes, words: int) -> bytes:
        self._line.write(command)
        return self._take(words)

    def _take(self, words: int) -> bytes:
        return self._line.read(WORD_BYTES * words) if words else b""
