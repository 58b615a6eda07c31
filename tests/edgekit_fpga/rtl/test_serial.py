import dataclasses
import select
import struct
import subprocess
from binascii import crc_hqx

import numpy as np
import pytest

from edgekit_fpga.driver.npu import Npu
from edgekit_fpga.driver.port import ID, DeviceError, LinkError, Register
from edgekit_fpga.driver.serial import (
    DAMAGED,
    DONE,
    DRAIN,
    READ,
    REFUSED,
    SEND,
    UNKNOWN,
    WRITE,
    SerialPort,
    frame,
)
from edgekit_fpga.interpreter import Machine
from edgekit_fpga.simulate.npu import measure, serial_simulator
from tests.edgekit_fpga.rtl.random_layers import Generator
from tests.edgekit_fpga.rtl.test_axi import BOARD, streamed

# the time is for building simulators on a machine that has other things to do
pytestmark = [pytest.mark.needs("verilator"), pytest.mark.timeout(600)]


class SimulatedLine:
    """The line to npu_serial in Verilator."""

    def __init__(self, program, timeout=60.0):
        self.timeout = timeout
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def write(self, data):
        for first in range(0, len(data), 255):
            part = data[first : first + 255]
            self._process.stdin.write(bytes((0, len(part))) + part)

    def read(self, size=1):
        data = b""
        while len(data) < size:
            if not select.select([self._process.stdout], [], [], self.timeout)[0]:
                break
            data += self._process.stdout.read(size - len(data))
        return data

    def send_break(self, duration=0.0):  # noqa: ARG002
        self._process.stdin.write(bytes((1, 0)))

    def reset_input_buffer(self):
        pass

    def close(self):
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


class BridgeModel:
    """What a board answers to a request, while its NPU is idle."""

    SET = (Register.TARGET, Register.TARGET_ADDRESS, Register.READ_ADDRESS)

    def __init__(self, known):
        self.registers = dict(known) | dict.fromkeys(self.SET, 0)

    def answer(self, request):
        operation, operand, payload = request[0], request[1], request[2:-2]
        if crc_hqx(request, 0xFFFF):
            return self.reply(DAMAGED)
        if operation == READ:
            value = self.registers.get(operand & ~3)
            return (
                self.reply(REFUSED)
                if value is None
                else self.reply(DONE, value.to_bytes(4, "little"))
            )
        if operation == WRITE:
            register = operand & ~3
            if register not in self.SET:
                return self.reply(REFUSED)
            (value,) = struct.unpack("<I", payload)
            self.registers[register] = value & 7 if register == Register.TARGET else value
            return self.reply(DONE)
        return self.reply(UNKNOWN)

    @staticmethod
    def reply(status, payload=b""):
        body = bytes((status,)) + payload
        return body + struct.pack(">H", crc_hqx(body, 0xFFFF))


@pytest.fixture
def line():
    line = SimulatedLine(serial_simulator(BOARD))
    yield line
    line.close()


def test_random_requests_are_answered_as_the_model_does(line):
    random = np.random.default_rng(1)
    port = SerialPort(line)
    known = {
        name: port.read(name)
        for name in Register
        if name not in (Register.CONTROL, Register.STATUS, Register.CYCLES, Register.READ_COUNT)
    }
    assert known[Register.ID] == ID
    model = BridgeModel(
        {name: value for name, value in known.items() if name not in BridgeModel.SET}
    )
    seen = set()
    busy = (Register.CONTROL, Register.STATUS, Register.CYCLES, Register.READ_COUNT)
    for _ in range(150):
        operation = int(random.choice([READ, READ, WRITE, WRITE, int(random.integers(256))]))
        operand = int(random.integers(0x50))
        if operation in (SEND, DRAIN) or operand & ~3 in busy:
            continue
        request = frame(operation, operand, random.bytes(4) if operation == WRITE else b"")
        if random.random() < 0.2:
            place = int(random.integers(2, len(request)))
            spoilt = request[place] ^ 1 << int(random.integers(8))
            request = request[:place] + bytes((spoilt,)) + request[place + 1 :]
        expected = model.answer(request)
        line.write(request)
        assert line.read(len(expected)) == expected, request
        seen.add(expected[0])
    assert seen == {DONE, REFUSED, DAMAGED, UNKNOWN}


def test_a_break_ends_a_request_that_is_half_there(line):
    SerialPort(line)
    line.write(frame(WRITE, Register.TARGET, bytes(4))[:5])
    assert SerialPort(line).read(Register.ID) == ID


def test_a_break_stops_a_program_under_way(line):
    port = SerialPort(line)
    generator = Generator(BOARD, 5)
    program = streamed(generator.program(["CONV"]), 1)
    npu = Npu(port)
    with pytest.raises(DeviceError):
        # no word comes for the LOAD
        npu.run(
            dataclasses.replace(program, weights=program.weights[: program.resident]),
            BOARD,
            generator.inputs,
            (),
        )
    assert not SerialPort(line).read(Register.STATUS) & 1


def test_a_register_that_only_tells_refuses_and_a_silent_board_is_a_broken_link(line):
    port = SerialPort(line)
    with pytest.raises(DeviceError, match="refuses register 0x00"):
        port.write(Register.ID, 1)
    line.timeout = 0.2
    with pytest.raises(LinkError, match="silent"):
        port.receive(1)  # nothing was asked for


@pytest.mark.parametrize("stream", [False, True])
def test_programs_run_over_the_line_as_in_the_interpreter(line, stream):
    generator = Generator(BOARD, 21)
    program = generator.program(["CONV", "DWCONV", "MUL"])
    if stream:
        program = streamed(program, 5)
    machine = Machine(program, BOARD.array, BOARD.memory.activation_granules, exact=True)
    expected = machine.run(generator.inputs, tuple(generator.outputs))
    actual, cycles = Npu(SerialPort(line)).run(
        program, BOARD, generator.inputs, tuple(generator.outputs)
    )
    for name, value in expected.items():
        assert np.array_equal(actual[name], value)
    if not stream:
        assert cycles == measure(program, BOARD, generator.inputs, ()).cycles
