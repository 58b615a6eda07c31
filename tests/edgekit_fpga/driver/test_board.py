"""A board over its serial link: termios at one end, and at the other what a board may answer."""

import os
import subprocess
import sys
import threading
import tty

import numpy as np
import pytest

from edgekit_fpga import compile_model, run
from edgekit_fpga.driver import DeviceError, LinkError, Register, open_driver
from edgekit_fpga.driver.line import SerialLine
from edgekit_fpga.driver.serial import DAMAGED, LOST, REFUSED, UNKNOWN, SerialPort, check, frame
from tests.edgekit_fpga.graphs import small_net


def test_the_check_is_the_published_one():
    # the check value of CRC-16/IBM-3740 in the catalogue of parametrised CRC algorithms
    assert check(b"123456789") == bytes.fromhex("29b1")


def test_frames_are_those_of_the_bridge():
    assert frame(ord("W"), 0x24, b"\1\0\0\0")[:-2] == b"W\x24\1\0\0\0"
    assert check(frame(ord("R"), 0x28)) == b"\0\0"


class Far:
    """The far end of a pseudo-terminal: gives one reply after each request that it gets."""

    def __init__(self, replies):
        self.ours, self.theirs = os.openpty()
        tty.setraw(self.theirs)
        self.device = os.ttyname(self.theirs)
        self.requests = []
        self.thread = threading.Thread(target=self.answer, args=(replies,))
        self.thread.start()

    def answer(self, replies):
        for reply in replies:
            self.requests.append(os.read(self.ours, 4096))
            os.write(self.ours, reply)

    def close(self):
        self.thread.join()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def far():
    made = []

    def make(*replies):
        made.append(Far(replies))
        return made[-1]

    yield make
    for each in made:
        each.close()


def reply(status, payload=b""):
    return bytes([status]) + payload + check(bytes([status]) + payload)


def test_registers_and_streams_are_frames(far):
    board = far(
        reply(0, b"\1\2\3\4"),
        reply(0),
        reply(0),
        reply(0),
        reply(0, bytes(1024)),
        reply(0, b"last"),
    )
    port = SerialPort.open(board.device)
    assert port.read(Register.STATUS) == 0x04030201
    port.write(Register.TARGET, 0x80000001)
    port.send(bytes(64) + b"more")  # it is busy: 16 words at once
    assert port.receive(257) == bytes(1024) + b"last"
    port.close()
    assert board.requests == [
        frame(ord("R"), 0x28),
        frame(ord("W"), 0x30, b"\1\0\0\x80"),
        frame(ord("S"), 15, bytes(64)),
        frame(ord("S"), 0, b"more"),
        frame(ord("D"), 255),
        frame(ord("D"), 0),
    ]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (reply(0, b"\0\0\0\0")[:-1] + b"\xff", "came damaged"),
        (reply(DAMAGED), "reached the board damaged"),
        (reply(UNKNOWN), "does not know an operation"),
        (reply(LOST), "had no room"),
        (reply(77), "answers 77"),
        (reply(0), "is silent"),
        (reply(0, bytes(4))[:-1], "is silent"),
        (b"", "is silent"),
    ],
)
def test_a_line_that_lies_is_an_error(far, monkeypatch, answer, message):
    monkeypatch.setattr(SerialLine.__init__, "__defaults__", (False, 0.2))
    port = SerialPort.open(far(answer).device)
    with pytest.raises(LinkError, match=message):
        port.read(Register.ID)
    port.close()


def test_what_the_npu_refuses_is_no_fault_of_the_line(far):
    port = SerialPort.open(far(reply(REFUSED)).device)
    with pytest.raises(DeviceError, match="refuses register 0x24") as refused:
        port.write(Register.CONTROL, 1)
    assert not isinstance(refused.value, LinkError)
    port.close()


def test_a_second_program_is_turned_away_until_the_first_ends(far):
    device = far().device
    program = (
        f"import edgekit_fpga.driver.line as l; line = l.SerialLine({device!r}, 115200);"
        "print('open', flush=True); input()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as first:
        assert first.stdout.readline() == b"open\n"
        with pytest.raises(LinkError, match="another program has"):
            SerialLine(device, 115200)
        first.kill()
    SerialLine(device, 115200).close()


def test_a_device_that_is_unplugged_is_said_to_be_gone():
    ours, theirs = os.openpty()
    line = SerialLine(os.ttyname(theirs), 115200)
    os.close(theirs)
    os.close(ours)
    for use in (lambda: line.write(b"x"), lambda: line.read(1)):
        with pytest.raises(LinkError, match="is gone"):
            use()
    line.close()


@pytest.mark.parametrize(
    ("device", "baud", "message"),
    [
        ("/nowhere", 115200, "cannot open /nowhere: No such file"),
        ("/dev/null", 115200, "is no serial device"),
        ("/dev/null", 12345, "12345 is no speed"),
    ],
)
def test_what_is_no_device_is_refused(device, baud, message):
    with pytest.raises(LinkError, match=message):
        SerialPort.open(device, baud)


@pytest.mark.needs("verilator")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("board", ["ecp5-85f", "ice40-up5k"])
def test_the_rtl_behind_its_bridge_gives_the_interpreters_outputs(board):
    """The whole way: driver, termios, pseudo-terminal, UART, bridge, NPU."""
    package = compile_model(small_net(3), board)
    images = {"x": np.random.default_rng(4).normal(size=(2, 1, 8, 8)).astype(np.float32)}
    with open_driver("rtl") as driver:
        direct = driver.run(package, images)
    command = [sys.executable, "-m", "edgekit_fpga.simulate.bridge", board]
    bridge = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        device = bridge.stdout.readline().strip()
        # a program that was killed in the middle of a frame
        line = SerialLine(device, 115200)
        line.write(frame(ord("W"), Register.TARGET, bytes(4))[:5])
        line.close()
        with open_driver("board", device) as driver:
            for _ in range(2):
                made = driver.run(package, images)
                assert made.outputs["y"].tolist() == run(package, images)["y"].tolist()
                assert made.cycles == direct.cycles
    finally:
        bridge.kill()
        bridge.wait()
        bridge.stdout.close()
