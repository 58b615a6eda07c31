"""The port of an NPU on a serial line, in the frames of `rtl/serial_bridge.sv`.

    request   operation, operand, payload, CRC     reply   status, payload, CRC

The CRC is CRC-16 with polynomial 0x1021 from 0xffff (`binascii.crc_hqx`), high byte first, over
everything before it. What is damaged on the way shows on the side that it reaches; nothing is sent
twice, because an NPU's stream cannot be taken back: the driver begins anew with a break, which
resets the board's NPU, and loads everything again.
"""

import struct
from binascii import crc_hqx
from typing import Protocol

from edgekit_fpga.driver.port import BUSY, WORD_BYTES, DeviceError, LinkError, Register

WRITE, READ, SEND, DRAIN = b"WRSD"
DONE, REFUSED, DAMAGED, UNKNOWN, LOST = range(5)
MOST_WORDS = 256  # of one frame
MOST_WORDS_BUSY = 16  # while the NPU runs and takes words at LOADs alone: DEPTH of the bridge
BREAK_SECONDS = 0.01
_START = 0xFFFF
_SAID = {
    DAMAGED: "a request was damaged on its way",
    UNKNOWN: "the board does not know an operation",
    LOST: "the board had no room for the words sent",
}


class Line(Protocol):
    """A serial line; pyserial's `Serial` is one."""

    def write(self, data: bytes, /) -> int | None:
        """Send bytes."""
        ...

    def read(self, size: int = ..., /) -> bytes:
        """Take `size` bytes; fewer where no more come for the line's timeout."""
        ...

    def send_break(self, duration: float = ...) -> None:
        """Hold the line low for so many seconds."""
        ...

    def reset_input_buffer(self) -> None:
        """Forget what has come."""
        ...

    def close(self) -> None:
        """Let go of the line."""
        ...


def frame(operation: int, operand: int, payload: bytes = b"") -> bytes:
    """A request."""
    body = bytes((operation, operand)) + payload
    return body + struct.pack(">H", crc_hqx(body, _START))


class SerialPort:
    """Drives an NPU over a line; begins with a break, so that no request of another is half done.

    Args:
        line: an open line at the board's speed, with a timeout of a second or more.

    Raises:
        LinkError: the line fails.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._busy = False
        try:
            line.send_break(BREAK_SECONDS)
            line.reset_input_buffer()
        except OSError as error:
            raise _failed(error) from error

    @classmethod
    def open(cls, device: str, baud: int, timeout: float = 5.0) -> "SerialPort":
        """The NPU on a device of this machine.

        Args:
            device: as `/dev/ttyUSB0`.
            baud: bits a second, as the board's file has it.
            timeout: seconds after which a silent board is given up.

        Raises:
            LinkError: pyserial is not here, or the device does not open.
        """
        try:
            import serial
        except ImportError as error:
            raise LinkError(
                "a board's serial line needs pyserial", "pip install 'edgekit[board]'"
            ) from error
        try:
            return cls(serial.Serial(device, baud, timeout=timeout, exclusive=True))
        except (OSError, ValueError) as error:
            raise LinkError(f"{device} does not open: {error}", "name another device") from error

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
        """Stream words in."""
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
        """Send a request; its reply's payload of `size` bytes."""
        try:
            self._line.write(request)
            status = self._take(1)
            payload = self._take(size) if status[0] == DONE else b""
            if self._take(2) != struct.pack(">H", crc_hqx(status + payload, _START)):
                raise LinkError(
                    "a reply was damaged on its way", "use a shorter cable or less baud"
                )
        except OSError as error:
            raise _failed(error) from error
        if status[0] == REFUSED:
            raise DeviceError(f"the NPU refuses register {request[1]:#04x}")
        if status[0] != DONE:
            raise LinkError(_SAID.get(status[0], f"the board answers {status[0]}"))
        return payload

    def _take(self, size: int) -> bytes:
        data = self._line.read(size) if size else b""
        if len(data) < size:
            raise LinkError(
                "the board is silent", "check that its bitstream is loaded, and the line's speed"
            )
        return data


def _failed(error: OSError) -> LinkError:
    return LinkError(f"the serial line fails: {error}", "check the cable")
