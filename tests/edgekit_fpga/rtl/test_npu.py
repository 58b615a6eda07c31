import dataclasses

import numpy as np
import pytest

from edgekit_fpga.boards import load_board
from edgekit_fpga.interpreter import Machine
from edgekit_fpga.simulate.npu import measure
from tests.edgekit_fpga.rtl.random_layers import KINDS, Generator

# the time is for building simulators on a machine that has other things to do
pytestmark = [pytest.mark.needs("verilator"), pytest.mark.timeout(600)]


def variant(**array):
    board = load_board("ecp5-85f")
    return dataclasses.replace(board, array=dataclasses.replace(board.array, **array))


# as on the board; and square, with few lanes, banks and requantizers, and two look-ups a cycle
BOARDS = {
    "16x8": load_board("ecp5-85f"),
    "4x4": variant(
        reduction_lanes=4,
        output_lanes=4,
        requantizers=2,
        banks=2,
        lookups=2,
        window_taps=9,
        patch_bytes=40,
    ),
}


def check(board, seed, kinds):
    generator = Generator(board, seed)
    program = generator.program(kinds)
    machine = Machine(program, board.array, board.memory.activation_granules, exact=True)
    expected = machine.run(generator.inputs, tuple(generator.outputs))
    actual = measure(program, board, generator.inputs, generator.outputs).tensors
    wrong = [
        f"{step.NAME} {name}: {int((actual[name] != expected[name]).sum())} of {value.size}\n{step}"
        for step, (name, value) in zip(program.instructions, expected.items(), strict=False)
        if not np.array_equal(actual[name], value)
    ]
    assert wrong == []


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
@pytest.mark.parametrize("kind", KINDS)
def test_random_layers_of_one_kind_agree_with_the_interpreter(board, kind):
    for seed in range(10):
        check(board, seed, [kind] * 6)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_random_programs_agree_with_the_interpreter(board):
    for seed in range(10):
        kinds = np.random.default_rng(seed).choice(KINDS, 8)
        check(board, 1000 + seed, kinds)
