"""The port of a board: frames over a serial device, with the standard library's termios alone."""

import errno
import fcntl
import os
import select
import struct
import termios
import time
import tty

from edgekit_fpga.driver.frames import (
    HEAD,
    MAX_FRAME,
    MAX_WORDS,
    REPLY,
    Frame,
    Operation,
    Status,
    decode,
    length,
)
from edgekit_fpga.driver.port import WORD_BYTES, DeviceError, LinkError, Register

BAUD = 2_000_000  # a whole divisor of the boards' clocks and of USB converters' 12 MHz
TIMEOUT = 10.0  # seconds for a reply; a stream may wait for the layer under way
RESET_TIMEOUT = 1.0  # seconds; nothing has to be waited for
PART = MAX_WORDS * WORD_BYTES


class SerialPort:
    """An NPU behind a serial device.

    Args:
        descriptor: of the device, open, raw and without blocking.
        device: its name, for messages.
    """

    def __init__(self, descriptor: int, device: str) -> None:
        self._descriptor = descriptor
        self._device = device

    @classmethod
    def open(cls, device: str, baud: int = 0) -> "SerialPort":
        """Open a device for this program alone and reset the NPU behind it.

        Args:
            device: as in `/dev/ttyUSB0`.
            baud: its speed; 0 for `BAUD`.

        Raises:
            LinkError: it does not open, another program has it, or nothing answers.
        """
        baud = baud or BAUD
        speed = getattr(termios, f"B{baud}", None)
        if speed is None:
            raise LinkError(f"{baud} is no speed of a serial device", f"use {BAUD}, say")
        try:
            descriptor = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            raise LinkError(
                f"cannot open {device}: {error.strerror}",
                "see that the board is connected and this user is in its group (dialout)",
            ) from error
        port = cls(descriptor, device)
        try:
            port._configure(speed)
            port._synchronize(baud)
        except BaseException:
            port.close()
            raise
        return port

    def read(self, register: Register) -> int:
        """The value of a register."""
        (value,) = struct.unpack("<I", self._ask(Frame(Operation.READ, register), 1))
        return int(value)

    def write(self, register: Register, value: int) -> None:
        """Set a register."""
        self._ask(Frame(Operation.WRITE, register, struct.pack("<I", value)), 0)

    def send(self, data: bytes) -> None:
        """Stream words in; each frame is answered once the NPU has taken its words."""
        for position in range(0, len(data), PART):
            self._ask(Frame(Operation.SEND, 0, data[position : position + PART]), 0)

    def receive(self, words: int) -> bytes:
        """Take words of the stream out."""
        parts = []
        while words:
            count = min(words, MAX_WORDS)
            parts.append(self._ask(Frame(Operation.RECEIVE, count), count))
            words -= count
        return b"".join(parts)

    def close(self) -> None:
        """Let go of the device."""
        os.close(self._descriptor)

    # --- the line ----------------------------------------------------------------------------

    def _configure(self, speed: int) -> None:
        try:
            # others must not read our replies; the lock ends with this process, however it ends
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            tty.setraw(self._descriptor)
            attributes = termios.tcgetattr(self._descriptor)
            attributes[2] |= termios.CLOCAL
            attributes[4] = attributes[5] = speed
            termios.tcsetattr(self._descriptor, termios.TCSANOW, attributes)
        except BlockingIOError as error:
            raise LinkError(
                f"another program has {self._device}", "end it, or take another board"
            ) from error
        except termios.error as error:
            raise LinkError(f"{self._device} is no serial device: {error.args[1]}") from error

    def _synchronize(self, baud: int) -> None:
        """End whatever frame the board may be in, throw away its answers, and reset the NPU."""
        termios.tcflush(self._descriptor, termios.TCIOFLUSH)
        deadline = time.monotonic() + RESET_TIMEOUT + 10 * MAX_FRAME / baud
        idle = bytes([Operation.IDLE]) * MAX_FRAME
        self._put(idle + Frame(Operation.RESET).encode(), deadline)
        wanted = Frame(Operation.RESET | REPLY, Status.OKAY).encode()
        seen = b""
        while not seen.endswith(wanted):
            seen = (seen + self._get(1, deadline))[-len(wanted) :]

    def _ask(self, request: Frame, words: int) -> bytes:
        """Send a request; the words of its reply, of which there must be so many."""
        deadline = time.monotonic() + TIMEOUT
        self._put(request.encode(), deadline)
        head = self._get(HEAD, deadline)
        reply = decode(head + self._get(length(head) - HEAD, deadline))
        if reply is None or reply.operation != request.operation | REPLY:
            raise LinkError(f"{self._device} brings a damaged reply", "lower the speed: --baud")
        if reply.argument == Status.REFUSED:
            raise DeviceError(f"the NPU refuses {_told(request)}")
        if reply.argument == Status.STALLED:
            raise LinkError(f"the NPU stopped in the middle of {_told(request)}")
        if reply.argument != Status.OKAY or len(reply.words) != WORD_BYTES * words:
            raise LinkError(
                f"{_told(request)} reached the board damaged", "lower the speed: --baud"
            )
        return reply.words

    def _put(self, data: bytes, deadline: float) -> None:
        while data:
            self._wait([], [self._descriptor], deadline)
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._lost(error) from error

    def _get(self, count: int, deadline: float) -> bytes:
        data = b""
        while len(data) < count:
            self._wait([self._descriptor], [], deadline)
            try:
                part = os.read(self._descriptor, count - len(data))
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._lost(error) from error
            if not part:
                raise self._lost(OSError(errno.EIO, os.strerror(errno.EIO)))
            data += part
        return data

    def _wait(self, readers: list[int], writers: list[int], deadline: float) -> None:
        left = max(deadline - time.monotonic(), 0.0)
        if not any(select.select(readers, writers, [], left)):
            raise LinkError(
                f"{self._device} is silent",
                "see that the board has power and its bitstream, and --baud is its speed",
            )

    def _lost(self, error: OSError) -> LinkError:
        return LinkError(f"{self._device} is gone: {error.strerror}", "connect the board again")


def _told(request: Frame) -> str:
    name = Operation(request.operation).name
    if request.operation in (Operation.READ, Operation.WRITE):
        return f"{name} of {Register(request.argument).name}"
    return name
