"""A board without a board: a pseudo-terminal whose other end is a simulated NPU's serial bridge.

    python -m edgekit_fpga.simulate.bridge ecp5-85f

prints the device to give to `--device`, and serves it until it is ended. What the bridge does on a
board, byte by byte, is done here in Python, in front of the NPU's RTL under Verilator.
"""

import os
import struct
import sys
import tty
from collections.abc import Callable

from edgekit_fpga.boards import load_board
from edgekit_fpga.driver.frames import HEAD, REPLY, Frame, Operation, Status, decode, length
from edgekit_fpga.driver.port import DeviceError, LinkError, Port, Register


class Bridge:
    """Turns bytes of the link into accesses to an NPU's registers and streams.

    Args:
        reset: gives the NPU as it is after a reset.
    """

    def __init__(self, reset: Callable[[], Port]) -> None:
        self._reset = reset
        self._port = reset()
        self._bytes = b""

    def take(self, data: bytes) -> bytes:
        """The replies to all frames that are complete with these bytes."""
        self._bytes += data
        replies = []
        while self._bytes:
            if self._bytes[0] == Operation.IDLE:
                self._bytes = self._bytes[1:]
                continue
            if len(self._bytes) < HEAD or len(self._bytes) < length(self._bytes):
                break
            whole = length(self._bytes)
            frame, self._bytes = self._bytes[:whole], self._bytes[whole:]
            replies.append(self._answer(frame).encode())
        return b"".join(replies)

    def close(self) -> None:
        """End the simulator."""
        self._port.close()

    def _answer(self, data: bytes) -> Frame:
        operation = data[0] | REPLY
        request = decode(data)
        if request is None:
            return Frame(operation, Status.DAMAGED)
        try:
            return Frame(operation, Status.OKAY, self._carry_out(request))
        except LinkError:
            return Frame(operation, Status.STALLED)
        except (DeviceError, ValueError):  # of a register that is none
            return Frame(operation, Status.REFUSED)

    def _carry_out(self, request: Frame) -> bytes:
        if request.operation == Operation.READ:
            return struct.pack("<I", self._port.read(Register(request.argument)))
        if request.operation == Operation.WRITE and len(request.words) == 4:
            (value,) = struct.unpack("<I", request.words)
            self._port.write(Register(request.argument), value)
        elif request.operation == Operation.SEND:
            self._port.send(request.words)
        elif request.operation == Operation.RECEIVE:
            return self._port.receive(request.argument)
        elif request.operation == Operation.RESET:
            self._port.close()
            self._port = self._reset()
        else:
            raise DeviceError("no such operation")
        return b""


def main(board: str) -> None:
    """Serve a board's NPU on a pseudo-terminal, whose name is the first line on stdout."""
    from edgekit_fpga.driver.simulated import SimulatedPort

    described = load_board(board)
    bridge = Bridge(lambda: SimulatedPort.start(described))
    ours, theirs = os.openpty()
    tty.setraw(theirs)  # and kept open, so that the line outlives each program that uses it
    sys.stdout.write(f"{os.ttyname(theirs)}\n")
    sys.stdout.flush()
    try:
        while data := os.read(ours, 4096):
            replies = bridge.take(data)
            while replies:
                replies = replies[os.write(ours, replies) :]
    except KeyboardInterrupt:
        return
    finally:
        bridge.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
