"""A board over its serial link: a pseudo-terminal with the simulated NPU's bridge behind it."""

import os
import select
import struct
import subprocess
import sys
import threading
import tty

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_fpga import compile_model, run
from edgekit_fpga.driver import DeviceError, LinkError, Register, open_driver
from edgekit_fpga.driver.frames import REPLY, Frame, Operation, Status, check, decode
from edgekit_fpga.driver.serial import SerialPort
from edgekit_fpga.simulate.bridge import Bridge
from tests.edgekit_fpga.driver.test_driver import Registers
from tests.edgekit_fpga.graphs import small_net


def test_the_check_is_the_published_one():
    # the check value of CRC-16/IBM-3740 in the catalogue of parametrised CRC algorithms
    assert check(b"123456789") == bytes.fromhex("29b1")


words = st.integers(0, 255).flatmap(lambda count: st.binary(min_size=4 * count, max_size=4 * count))


@given(st.integers(0, 255), st.integers(0, 255), words, st.data())
def test_a_frame_is_read_as_it_was_written_and_damage_is_seen(operation, argument, data, draw):
    frame = Frame(operation, argument, data)
    wire = frame.encode()
    assert decode(wire) == frame
    place = draw.draw(st.integers(0, len(wire) - 1))
    flip = draw.draw(st.integers(1, 255))
    damaged = wire[:place] + bytes([wire[place] ^ flip]) + wire[place + 1 :]
    assert decode(damaged) is None or damaged[2] != wire[2]


class Line:
    """A pseudo-terminal with a bridge to mere registers, and what a bad line does to replies."""

    def __init__(self, damage=lambda data: data):
        self.ports = []
        self.ours, theirs = os.openpty()
        tty.setraw(theirs)
        self.theirs, self.device = theirs, os.ttyname(theirs)
        self.ended, self.ending = os.pipe()
        self.thread = threading.Thread(target=self.serve, args=(damage,))
        self.thread.start()

    def reset(self):
        self.ports.append(Registers())
        return self.ports[-1]

    def serve(self, damage):
        bridge = Bridge(self.reset)
        while True:
            ready, _, _ = select.select([self.ours, self.ended], [], [])
            if self.ended in ready:
                return
            os.write(self.ours, damage(bridge.take(os.read(self.ours, 4096))))

    def close(self):
        os.write(self.ending, b"x")
        self.thread.join()
        for descriptor in (self.ours, self.theirs, self.ended, self.ending):
            os.close(descriptor)


@pytest.fixture
def line():
    made = []

    def make(*arguments):
        made.append(Line(*arguments))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_opening_ends_a_frame_that_broke_off_and_resets(line):
    board = line()
    # a program that died in the middle of sending, and replies that nobody read
    os.write(board.theirs, Frame(Operation.READ, Register.ID).encode() * 3)
    os.write(board.theirs, Frame(Operation.SEND, 0, bytes(1020)).encode()[:500])
    port = SerialPort.open(board.device)
    assert len(board.ports) == 2
    port.write(Register.TARGET, 0xDEADBEEF)
    assert port.read(Register.TARGET) == 0xDEADBEEF
    port.send(bytes(4 * 1000))
    assert port.receive(600) == bytes(2400)
    port.close()


def test_a_second_program_is_turned_away(line):
    board = line()
    port = SerialPort.open(board.device)
    with pytest.raises(LinkError, match="another program has"):
        SerialPort.open(board.device)
    port.close()
    SerialPort.open(board.device).close()


def after_reset(change):
    """Damages every reply but that to the reset."""
    reset = Frame(Operation.RESET | REPLY).encode()
    return lambda data: data if data in (b"", reset) else change(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "brings a damaged reply"),
        (lambda _: Frame(Operation.WRITE | REPLY).encode(), "brings a damaged reply"),
        (lambda _: Frame(Operation.READ | REPLY, Status.DAMAGED).encode(), "reached the board"),
        (lambda _: Frame(Operation.READ | REPLY, Status.STALLED).encode(), "stopped in the middle"),
        (lambda _: Frame(Operation.READ | REPLY, 0, bytes(8)).encode(), "reached the board"),
        (lambda data: data[:-1], "is silent"),
        (lambda _: b"", "is silent"),
    ],
)
def test_a_line_that_lies_is_an_error(line, monkeypatch, change, message):
    monkeypatch.setattr("edgekit_fpga.driver.serial.TIMEOUT", 0.2)
    port = SerialPort.open(line(after_reset(change)).device)
    with pytest.raises(LinkError, match=message):
        port.read(Register.STATUS)
    port.close()


def test_what_the_npu_refuses_is_named(line):
    refused = Frame(Operation.WRITE | REPLY, Status.REFUSED).encode()
    port = SerialPort.open(line(after_reset(lambda _: refused)).device)
    with pytest.raises(DeviceError, match="the NPU refuses WRITE of CONTROL"):
        port.write(Register.CONTROL, 1)
    port.close()


@pytest.mark.parametrize(
    ("device", "baud", "message"),
    [
        ("/nowhere", 0, "cannot open /nowhere: No such file"),
        ("/dev/null", 0, "is no serial device"),
        ("/dev/null", 12345, "12345 is no speed"),
    ],
)
def test_what_is_no_device_is_refused(device, baud, message):
    with pytest.raises(LinkError, match=message):
        SerialPort.open(device, baud)


def test_nobody_at_the_other_end_is_said():
    ours, theirs = os.openpty()
    with pytest.raises(LinkError, match="is silent"):
        SerialPort.open(os.ttyname(theirs))
    os.close(ours)
    os.close(theirs)


def test_bytes_of_any_kind_never_stop_the_bridge():
    bridge = Bridge(Registers)
    random = np.random.default_rng(0)
    for _ in range(300):
        bridge.take(random.integers(0, 256, 200, dtype=np.uint8).tobytes())
    bridge.take(bytes(2000))
    answer = decode(bridge.take(Frame(Operation.READ, Register.ID).encode()))
    assert answer is not None
    assert struct.unpack("<I", answer.words)[0] == 0x4E505531


@pytest.mark.needs("verilator")
@pytest.mark.timeout(600)
def test_the_rtl_behind_a_serial_link_gives_the_interpreters_outputs():
    package = compile_model(small_net(3))
    images = {"x": np.random.default_rng(4).normal(size=(3, 1, 8, 8)).astype(np.float32)}
    with open_driver("rtl") as driver:
        direct = driver.run(package, images)
    command = [sys.executable, "-m", "edgekit_fpga.simulate.bridge", "ecp5-85f"]
    bridge = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert bridge.stdout is not None
        with open_driver("board", bridge.stdout.readline().strip()) as driver:
            for _ in range(2):
                made = driver.run(package, images)
                assert made.outputs["y"].tolist() == run(package, images)["y"].tolist()
                assert made.cycles == direct.cycles
    finally:
        bridge.kill()
        bridge.wait()
        bridge.stdout.close()
