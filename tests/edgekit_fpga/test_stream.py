import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_fpga import compare, compile_model, isa
from edgekit_fpga.boards import load_board
from edgekit_fpga.compiler.stream import Step, stream
from edgekit_fpga.errors import BoardError
from edgekit_fpga.program import Trace
from tests.edgekit_fpga.graphs import small_net

BOARD = load_board("ecp5-85f")


def with_words(count):
    memory = dataclasses.replace(BOARD.memory, weight_words=count)
    return dataclasses.replace(BOARD, memory=memory)


def layer(tiles, steps, number):
    words = np.full((tiles * steps, 8, 16), number, np.int8)
    conv = isa.Conv(out_granules=tiles, steps=steps, out_base=number * 100)
    return Step(conv, Trace(f"n{number}", own=f"t{number}"), words)


def carried_out(streamed, room):
    """The words each layer instruction reads, after LOADs as the interpreter does them."""
    memory = np.zeros((room, 8, 16), np.int8)
    memory[: streamed.resident] = streamed.weights[: streamed.resident]
    taken, read = streamed.resident, []
    for step in streamed.instructions:
        if isinstance(step, isa.Load):
            memory[step.weights : step.weights + step.count] = streamed.weights[
                taken : taken + step.count
            ]
            taken += step.count
        elif isinstance(step, isa.Conv):
            read.append(memory[step.weights : step.weights + step.out_granules * step.steps].copy())
    assert taken == len(streamed.weights)
    return read


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 5)), min_size=1, max_size=8))
def test_every_layer_reads_its_own_words(sizes):
    steps = [layer(tiles, count, number + 1) for number, (tiles, count) in enumerate(sizes)]
    streamed = stream(steps, with_words(12))
    read = np.concatenate(carried_out(streamed, 12))
    assert np.array_equal(read, np.concatenate([step.words for step in steps]))


def test_what_fits_is_resident():
    streamed = stream([layer(2, 3, 1), layer(2, 2, 2)], with_words(10))
    assert streamed.resident == 10
    assert [type(step).__name__ for step in streamed.instructions] == ["Conv", "Conv", "End"]


def test_a_load_stands_right_behind_the_reader_of_what_it_replaces():
    streamed = stream([layer(1, 4, n) for n in (1, 2, 3)], with_words(8))
    kinds = [type(step).__name__ for step in streamed.instructions]
    assert kinds == ["Conv", "Load", "Conv", "Conv", "End"]
    assert [step.wait for step in streamed.instructions if isinstance(step, isa.Conv)] == [0, 0, 1]


def test_a_tile_larger_than_half_the_memory_is_refused():
    with pytest.raises(BoardError, match="n1: an output tile needs 7 weight words"):
        stream([layer(2, 7, 1)], with_words(12))


@pytest.mark.parametrize("words", [18, 24, 36])
def test_a_streamed_net_is_still_bit_equal(words):
    model = small_net(0)
    package = compile_model(model, with_words(words))
    assert any(isinstance(step, isa.Load) for step in package.program.instructions)
    images = np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)
    result = compare(package, model, {"x": images})
    assert result.mismatches == 0
    assert len(result.tensors) >= 8
