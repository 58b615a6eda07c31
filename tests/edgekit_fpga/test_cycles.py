import dataclasses

import numpy as np
import pytest

from edgekit_fpga import compile_model, isa
from edgekit_fpga.boards import Link, load_board
from edgekit_fpga.cycles import FETCH_CYCLES, link_cycles, program_costs, program_cycles
from edgekit_fpga.driver.npu import cycle_limit
from edgekit_fpga.driver.serial import MOST_WORDS_BUSY, SEND, SerialPort, frame
from edgekit_fpga.errors import BoardError
from edgekit_fpga.profiling import profile, streaming
from edgekit_fpga.simulate import simulated
from tests.edgekit_fpga.graphs import small_net

BOARD = load_board("ecp5-85f")


class CountingLine:
    """A line to an NPU that takes everything; counts the bytes in both directions."""

    def __init__(self):
        self.bytes = 0

    def write(self, data):
        self.bytes += len(data)

    def read(self, size=1):
        self.bytes += size
        return {1: b"\0", 2: b"\xe1\xf0"}[size]  # done, and its check

    def send_break(self, duration=0.0):
        pass

    def reset_input_buffer(self):
        pass


def test_a_serial_line_takes_as_long_as_the_drivers_frames_take_on_it():
    weights = np.zeros(4096, np.int8).tobytes()
    line = CountingLine()
    port = SerialPort(line)
    port._busy = True
    port.send(weights)
    # ten bits a byte, 40 cycles a bit
    assert link_cycles(len(weights), BOARD) == line.bytes * 10 * 40
    assert len(frame(SEND, 0, bytes(4 * MOST_WORDS_BUSY))) + 3 == 71


@pytest.mark.parametrize(
    ("board", "cycles"),
    [("ecp5-85f", 28_400), ("ecp5-25f", 28_400), ("ice40-up5k", 4_480), ("generic-axi", 16)],
)
def test_what_64_bytes_of_weights_take_over_each_boards_link(board, cycles):
    assert link_cycles(64, load_board(board)) == cycles


def test_loads_follow_each_other_and_layers_wait_for_the_last():
    conv = isa.Conv(out_height=4, out_width=25, out_granules=1, steps=1, kernel_height=1)
    wait = dataclasses.replace(conv, wait=1)
    load = isa.Load(count=16)  # 2048 bytes, 512 cycles
    costs = program_costs((conv, load, conv, load, wait, isa.End()), simulated(BOARD))
    own, fetch = 100 + BOARD.array.latency, FETCH_CYCLES
    assert [cost.work for cost in costs] == [own, fetch, own, fetch, own, 0]
    assert [cost.waiting for cost in costs] == [0, 0, 0, 512 - fetch - own, 512 - fetch, 0]


def test_a_profile_says_who_waits_for_weights_and_adds_up():
    memory = dataclasses.replace(BOARD.memory, weight_words=24)
    package = compile_model(small_net(3), dataclasses.replace(BOARD, memory=memory))
    layers, cost = profile(package), streaming(package)
    loads = [step for step in package.program.instructions if isinstance(step, isa.Load)]
    assert cost.bytes_in == 128 * sum(step.count for step in loads) > 0
    assert cost.again == 128 * package.program.resident
    assert cost.link == cost.bytes_in * 71 // 64 * 400
    assert cost.waiting == sum(layer.waiting for layer in layers) > cost.link * 0.9
    assert sum(layer.cycles for layer in layers) == package.manifest["cycles"]["total"]


def test_what_is_resident_streams_nothing():
    package = compile_model(small_net(3))
    assert streaming(package) is None
    assert program_cycles(package.program.instructions, BOARD) == program_cycles(
        package.program.instructions, simulated(BOARD)
    )


def test_a_run_may_take_as_long_as_its_weights_are_on_the_line():
    board = load_board("ice40-up5k")
    memory = dataclasses.replace(board.memory, weight_words=420)
    board = dataclasses.replace(board, memory=memory)
    package = compile_model(small_net(3), board)
    assert cycle_limit(package.program, board) > 4 * package.manifest["cycles"]["total"]


def test_a_run_that_no_counter_can_count_is_refused():
    memory = dataclasses.replace(BOARD.memory, weight_words=20)
    board = dataclasses.replace(BOARD, memory=memory, link=Link("serial", 300))
    with pytest.raises(BoardError, match=r"would take [\d,]+ cycles, most of them for weights"):
        compile_model(small_net(3), board)
