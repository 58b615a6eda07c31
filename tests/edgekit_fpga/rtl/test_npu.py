import dataclasses

import numpy as np
import pytest

from edgekit_fpga import isa
from edgekit_fpga.arithmetic import fixed_add
from edgekit_fpga.boards import COMPACT, load_board
from edgekit_fpga.interpreter import Machine
from edgekit_fpga.program import Placement, Program, Trace
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
    "compact": load_board("ice40-up5k"),
}
# the compact core takes as many taps of a depthwise window as it can hold
BUILT = [
    pytest.param(board, kind, id=f"{name}-{kind}")
    for name, board in BOARDS.items()
    for kind in KINDS
    if (board.array.core, kind) != (COMPACT, "DIAGONAL")
]


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


@pytest.mark.parametrize(("board", "kind"), BUILT)
def test_random_layers_of_one_kind_agree_with_the_interpreter(board, kind):
    for seed in range(10):
        check(board, seed, [kind] * 6)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_random_programs_agree_with_the_interpreter(board):
    for seed in range(10):
        built = [kind for kind in KINDS if (board.array.core, kind) != (COMPACT, "DIAGONAL")]
        check(board, 1000 + seed, np.random.default_rng(seed).choice(built, 8))


# adds of the kind that a graph's scales make, by (multiplier, shift, step of the second operand);
# the first two have true ties
ADDS = [
    (2**23, 24, 2**23),
    (2**15, 16, 2**24),
    (12_345_678, 25, 7_654_321),
    (-(2**24), 36, 2**24 + 1),
]


@pytest.mark.parametrize("add", ADDS)
def test_the_compact_cores_adds_agree_for_thousands_of_pairs(add):
    board, (multiplier, shift, step) = BOARDS["compact"], add
    draw = np.random.default_rng(shift)
    operands = draw.integers(-128, 128, (2, 1, 1, 40, 400), np.int8)
    places = [Placement(16_000 * k, 400, 1, 0, 1, 40, 400) for k in range(3)]
    plane = {"height": 40, "width": 400, "granules": 1}
    layer = isa.Map(
        add=1, stride_height=1, stride_width=1, repeat_height=1, repeat_width=1,
        in_base=0, in_row=400, in_pixel=1, add_base=16_000, add_row=400, add_pixel=1,
        out_base=32_000, out_row=400, out_pixel=1,
        add_multiplier=multiplier, add_shift=shift, add_low=-128, add_high=127, add_offset=3,
        **{f"{role}_{name}": value for role in ("in", "out") for name, value in plane.items()},
    )  # fmt: skip
    table = np.arange(256, dtype=np.int8).astype(np.int64) * step
    table += draw.integers(-3, 4, 256) * draw.integers(0, 2, 256)
    program = Program(
        (layer, isa.End()), np.zeros((0, 1, 4), np.int8), 0, np.zeros(0, np.uint64), table,
        dict(zip(("a", "b", "sum"), places, strict=True)), (Trace("add"),),
    )  # fmt: skip
    entries = table[operands[1].astype(np.uint8)]
    expected = fixed_add(operands[0], entries, multiplier, shift, 3, -128, 127)
    inputs = {"a": operands[0], "b": operands[1]}
    assert np.array_equal(measure(program, board, inputs, ["sum"]).tensors["sum"], expected)
