"""The port of an NPU on a serial line, in the frames of `rtl/serial_bridge.sv`.

    request   operation, operand, payload, CRC     reply   status, payload, CRC

The CRC is CRC-16 with polynomial 0x1021 from 0xffff, high byte first, over everything before it.
Nothing is sent twice, because an NPU's stream cannot be taken back: after an error the driver
begins anew with a break, which resets the board's NPU, and loads everything again.
"""

import binascii
import struct
from typing import Protocol

from edgekit_fpga.driver.line import SerialLine
from edgekit_fpga.driver.port import BUSY, WORD_BYTES, DeviceError, LinkError, Register

WRITE, READ, SEND, DRAIN = b"WRSD"
DONE, REFUSED, DAMAGED, UNKNOWN, LOST = range(5)
MOST_WORDS = 256  # of one frame
MOST_WORDS_BUSY = 16  # while the NPU runs and takes words at LOADs alone: DEPTH of the bridge
CHECK_BYTES = 2
BREAK_SECONDS = 0.01
BAUD = 2_000_000  # of a board whose file does not say it

_SAID = {
    DAMAGED: "a request reached the board damaged",
    UNKNOWN: "the board does not know an operation",
    LOST: "the board had no room for the words sent",
}


class Line(Protocol):
    """A serial line; `SerialLine` is one."""

    def write(self, data: bytes, /) -> object:
        """Send bytes."""
        ...

    def read(self, size: int = ..., /) -> bytes:
        """Take `size` bytes; fewer, or an error, where no more come."""
        ...

    def send_break(self, duration: float = ..., /) -> None:
        """Hold the line low for at least so many seconds."""
        ...

    def reset_input_buffer(self) -> None:
        """Forget what has come."""
        ...

    def close(self) -> None:
        """Let go of the line."""
        ...


def check(data: bytes) -> bytes:
    """CRC-16/IBM-3740 of `data`, as it stands at the end of a frame."""
    return binascii.crc_hqx(data, 0xFFFF).to_bytes(CHECK_BYTES, "big")


def frame(operation: int, operand: int, payload: bytes = b"") -> bytes:
    """A request."""
    body = bytes((operation, operand)) + payload
    return body + check(body)


class SerialPort:
    """Drives an NPU over a line; begins with a break, so that no request of another is half done.

    Args:
        line: open, at the board's speed.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._busy = False
        line.send_break(BREAK_SECONDS)
        line.reset_input_buffer()

    @classmethod
    def open(cls, device: str, baud: int = BAUD) -> "SerialPort":
        """The NPU behind a serial device of this machine.

        Args:
            device: as in `/dev/ttyUSB0`.
            baud: bits a second.

        Raises:
            LinkError: the device does not open, or another program has it.
        """
        line = SerialLine(device, baud)
        try:
            return cls(line)
        except BaseException:
            line.close()
            raise

    def read(self, register: Register) -> int:
        """The value of a register."""
        (value,) = struct.unpack("<I", self._ask(frame(READ, register), WORD_BYTES))
        if register == Register.STATUS:
            self._busy = bool(value & BUSY)
        return int(value)

    def write(self, register: Register, value: int) -> None:
        """Set a register."""
        self._ask(frame(WRITE, register, struct.pack("<I", value)), 0)
        if register == Register.CONTROL:
            self._busy = bool(value & 1)

    def send(self, data: bytes) -> None:
        """Stream words in; each frame is answered once the NPU has taken its words."""
        size = WORD_BYTES * (MOST_WORDS_BUSY if self._busy else MOST_WORDS)
        for first in range(0, len(data), size):
            part = data[first : first + size]
            self._ask(frame(SEND, len(part) // WORD_BYTES - 1, part), 0)

    def receive(self, words: int) -> bytes:
        """Take words of the stream out."""
        parts = []
        for first in range(0, words, MOST_WORDS):
            count = min(MOST_WORDS, words - first)
            parts.append(self._ask(frame(DRAIN, count - 1), WORD_BYTES * count))
        return b"".join(parts)

    def close(self) -> None:
        """Let go of the line."""
        self._line.close()

    def _ask(self, request: bytes, size: int) -> bytes:
        """Send a request; its reply's payload, of `size` bytes."""
        self._line.write(request)
        status = self._take(1)
        payload = self._take(size) if status[0] == DONE else b""
        if self._take(CHECK_BYTES) != check(status + payload):
            raise LinkError("a reply came damaged", "use a shorter cable, or a lower --baud")
        if status[0] == REFUSED:
            raise DeviceError(f"the NPU refuses register {request[1]:#04x}")
        if status[0] != DONE:
            raise LinkError(
                _SAID.get(status[0], f"the board answers {status[0]}"),
                "use a shorter cable, or a lower --baud",
            )
        return payload

    def _take(self, size: int) -> bytes:
        data = self._line.read(size) if size else b""
        if len(data) < size:
            raise LinkError("the board is silent", "see that it has its bitstream, and the speed")
        return data
