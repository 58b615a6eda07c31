"""A board without a board: a pseudo-terminal, and behind it the NPU's RTL with its serial bridge.

    python -m edgekit_fpga.simulate.bridge ecp5-85f

prints the device to give to `--device`, and serves it until it is ended. A pseudo-terminal carries
no break, but it tells of the flush that a host sends with one: that becomes a break on the
simulated line.
"""

import os
import select
import subprocess
import sys
import termios
import tty
from fcntl import ioctl
from pathlib import Path

from edgekit_fpga.boards import load_board
from edgekit_fpga.simulate.npu import serial_simulator

SEND, BREAK = 0, 1
RECORD = 255  # bytes of one record of `serial_bench.cpp`
# what the first byte of each read says in packet mode (ioctl_tty(2))
PACKET_DATA, PACKET_FLUSH_READ = 0, 1


class Terminal:
    """A pseudo-terminal whose other end is a simulated board.

    Args:
        program: the simulator of `serial_bench.cpp`.

    Attributes:
        device: its name, which a driver opens.
    """

    def __init__(self, program: Path) -> None:
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)  # and kept open, so that the line outlives programs that use it
        ioctl(self._ours, termios.TIOCPKT, b"\1\0\0\0")
        self.device = os.ttyname(self._theirs)
        self._board = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self._board.stdin is not None
        assert self._board.stdout is not None
        self._to_board, self._from_board = self._board.stdin, self._board.stdout

    def serve(self) -> None:
        """Pass bytes to and fro until the board ends."""
        while True:
            ready, _, _ = select.select([self._ours, self._from_board.fileno()], [], [])
            if self._from_board.fileno() in ready:
                data = os.read(self._from_board.fileno(), 4096)
                if not data:
                    return
                while data:
                    data = data[os.write(self._ours, data) :]
            if self._ours in ready:
                self._pass_on(os.read(self._ours, 4096))

    def close(self) -> None:
        """End the board."""
        self._board.kill()
        self._board.wait()
        self._to_board.close()
        self._from_board.close()
        os.close(self._ours)
        os.close(self._theirs)

    def _pass_on(self, packet: bytes) -> None:
        if packet[0] & PACKET_FLUSH_READ:
            self._to_board.write(bytes((BREAK, 0)))
        if packet[0] == PACKET_DATA:
            for first in range(1, len(packet), RECORD):
                part = packet[first : first + RECORD]
                self._to_board.write(bytes((SEND, len(part))) + part)


def main(board: str) -> None:
    """Serve a board's NPU on a pseudo-terminal, whose name is the first line on stdout."""
    terminal = Terminal(serial_simulator(load_board(board)))
    sys.stdout.write(f"{terminal.device}\n")
    sys.stdout.flush()
    try:
        terminal.serve()
    except KeyboardInterrupt:
        return
    finally:
        terminal.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
