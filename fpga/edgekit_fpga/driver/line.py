"""A serial line of this machine, with the standard library's termios alone."""

import errno
import fcntl
import os
import select
import termios
import time
import tty

from edgekit_fpga.driver.port import LinkError

TIMEOUT = 10.0  # seconds; a stream may have to wait for the layer under way
SETTLE = 0.05  # seconds in which a USB converter brings what was on its way


class SerialLine:
    """An open line, raw, 8N1, for this program alone.

    Args:
        device: as in `/dev/ttyUSB0`.
        baud: bits a second.
        flow_control: whether RTS and CTS are connected and heeded.
        timeout: seconds without a byte after which a read or write gives up.

    Raises:
        LinkError: no such speed, the device does not open, or another program has it.
    """

    def __init__(
        self, device: str, baud: int, flow_control: bool = False, timeout: float = TIMEOUT
    ) -> None:
        self.device, self.timeout = device, timeout
        speed = getattr(termios, f"B{baud}", None)
        if speed is None:
            raise LinkError(f"{baud} is no speed of a serial device", "use 2000000, say")
        try:
            self._descriptor = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            raise LinkError(
                f"cannot open {device}: {error.strerror}",
                "see that the board is connected and this user is in its group (dialout)",
            ) from error
        try:
            self._configure(speed, flow_control)
        except BaseException:
            self.close()
            raise

    def write(self, data: bytes) -> None:
        """Send bytes.

        Raises:
            LinkError: the device is gone, or takes none for the timeout.
        """
        while data:
            self._wait([], [self._descriptor])
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._gone(error) from error

    def read(self, size: int = 1) -> bytes:
        """Take `size` bytes.

        Raises:
            LinkError: the device is gone, or brings none for the timeout.
        """
        data = b""
        while len(data) < size:
            self._wait([self._descriptor], [])
            try:
                part = os.read(self._descriptor, size - len(data))
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._gone(error) from error
            if not part:
                raise self._gone(OSError(errno.EIO, os.strerror(errno.EIO)))
            data += part
        return data

    def send_break(self, duration: float = 0.0) -> None:  # noqa: ARG002 the kernel's is longer
        """Hold the line low for a quarter of a second, and let it settle."""
        termios.tcsendbreak(self._descriptor, 0)
        time.sleep(SETTLE)

    def reset_input_buffer(self) -> None:
        """Forget what has come."""
        termios.tcflush(self._descriptor, termios.TCIFLUSH)

    def close(self) -> None:
        """Let go of the device."""
        os.close(self._descriptor)

    def _configure(self, speed: int, flow_control: bool) -> None:
        try:
            # others must not read our replies; the lock ends with this process, however it ends
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            tty.setraw(self._descriptor)
            attributes = termios.tcgetattr(self._descriptor)
            attributes[2] |= termios.CLOCAL | (termios.CRTSCTS if flow_control else 0)
            attributes[4] = attributes[5] = speed
            termios.tcsetattr(self._descriptor, termios.TCSANOW, attributes)
        except BlockingIOError as error:
            raise LinkError(
                f"another program has {self.device}", "end it, or take another board"
            ) from error
        except termios.error as error:
            raise LinkError(f"{self.device} is no serial device: {error.args[1]}") from error

    def _wait(self, readers: list[int], writers: list[int]) -> None:
        if not any(select.select(readers, writers, [], self.timeout)):
            raise LinkError(
                f"{self.device} is silent",
                "see that the board has power and its bitstream, and --baud is its speed",
            )

    def _gone(self, error: OSError) -> LinkError:
        return LinkError(f"{self.device} is gone: {error.strerror}", "connect the board again")
