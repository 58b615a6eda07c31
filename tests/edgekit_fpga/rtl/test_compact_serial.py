import dataclasses
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgekit_fpga import isa, rtl
from edgekit_fpga.boards import Link, load_board
from edgekit_fpga.cycles import link_cycles, program_cycles
from edgekit_fpga.driver.job import Job, Read, tensor_granules
from edgekit_fpga.interpreter import Machine
from edgekit_fpga.rtl import parameters
from edgekit_fpga.simulate.npu import measure
from edgekit_fpga.simulate.verilator import build
from tests.edgekit_fpga.rtl.random_layers import Generator

# the time is for building simulators on a machine that has other things to do
pytestmark = [pytest.mark.needs("verilator"), pytest.mark.timeout(600)]

BOARD = load_board("ice40-up5k")
IDENTIFY = struct.pack("<I", 3)
IDENTITY = struct.pack("<3I", 0x4E505531, isa.ISA_VERSION, 0x01010104)
RUN_ANSWER = 12
CLOCKS_PER_BIT = 8  # of the bench and of the module where nobody says otherwise


@pytest.fixture(scope="module")
def line():
    """What the NPU answers to bytes on a serial line; None among them stands for a break."""
    bench = (Path(__file__).parent / "compact_serial_bench.cpp").read_text()
    program = build("npu_compact_serial", rtl.sources(), bench, parameters(BOARD))

    def answer(parts, count):
        values = [-1 if part is None else byte for part in parts for byte in (part or b"\0")]
        sent = np.array(values, "<i2").tobytes()
        done = subprocess.run(
            [program, str(count)], input=sent, capture_output=True, check=True, timeout=300
        )
        return done.stdout

    return answer


def job_of(program, generator):
    """A job's commands, and the bytes that the interpreter expects of it after the run's answer."""
    job = Job(BOARD)
    job.load_program(program)
    job.load_weights(program)
    for name, value in generator.inputs.items():
        job.write_tensor(program.placements[name], value[0])
    job.run(program, 10**6)
    machine = Machine(program, BOARD.array, BOARD.memory.activation_granules, exact=True)
    expected = b""
    for name, value in machine.run(generator.inputs, tuple(generator.outputs)).items():
        place = program.placements[name]
        numbers, content = tensor_granules(place, value[0], BOARD)
        job.read_tensor(place)
        expected += b"".join(bytes([byte, 0, 0, 0]) for byte in bytes(content[np.argsort(numbers)]))
    return job, expected


def test_the_host_is_told_what_answers_it(line):
    assert line([IDENTIFY], len(IDENTITY)) == IDENTITY


@pytest.mark.parametrize("stream", [False, True])
def test_a_job_gives_the_interpreters_results_and_the_simulated_cycles(line, stream):
    generator = Generator(BOARD, 4)
    program = generator.program(["CONV", "DWCONV", "PACK", "MUL"])
    if stream:
        words = program.resident // 2
        load = isa.Load(weights=program.resident - words, count=words)
        first = dataclasses.replace(program.instructions[0], wait=1)
        program = dataclasses.replace(
            program,
            instructions=(load, first, *program.instructions[1:]),
            resident=program.resident - words,
        )
    job, expected = job_of(program, generator)
    answer = line([job.encode()], RUN_ANSWER + len(expected))
    error, cycles, layers = struct.unpack("<3I", answer[:RUN_ANSWER])
    assert (error, layers) == (0, 0)
    assert answer[RUN_ANSWER:] == expected
    if stream:
        # at the speed of the simulated line, which is most of them
        link = Link("serial", round(BOARD.clock_mhz * 1e6 / CLOCKS_PER_BIT))
        estimate = sum(program_cycles(program.instructions, dataclasses.replace(BOARD, link=link)))
        assert link_cycles(4 * words, dataclasses.replace(BOARD, link=link)) > 0.5 * estimate
        assert abs(cycles - estimate) < 0.03 * estimate
    else:
        assert (cycles,) == measure(program, BOARD, generator.inputs, ()).cycles


def test_a_program_that_means_nothing_is_answered_with_an_error(line):
    job = Job(BOARD)
    job.load(0, 0, bytes([99]) + bytes(127))
    answer = line([job.encode(), struct.pack("<3I", 1, 1000, 0), IDENTIFY], 24)
    assert struct.unpack("<3I", answer[:12])[0] == 1
    assert answer[12:] == IDENTITY


def test_a_run_beyond_its_limit_is_cut_off_and_its_words_are_dropped(line):
    """A layer that waits for weights which do not come."""
    job = Job(BOARD)
    program = (isa.Load(weights=0, count=5), isa.Map(wait=1), isa.End())
    job.load(0, 0, isa.encode_program(program))
    run = struct.pack("<3I", 1, 512, 3) + bytes(12)
    answer = line([job.encode(), run, IDENTIFY], 24)
    assert struct.unpack("<3I", answer[:12])[0] == 2
    assert answer[12:] == IDENTITY


def test_a_break_ends_whatever_was_under_way(line):
    half_a_load = struct.pack("<4I", 0, 1, 0, 1000) + b"abc"
    assert line([half_a_load, None, IDENTIFY], len(IDENTITY)) == IDENTITY


def test_reading_nothing_answers_nothing(line):
    nothing = Read(0, 0).encode()
    assert line([nothing, IDENTIFY], len(IDENTITY)) == IDENTITY
