import dataclasses

import pytest

from edgekit_fpga.boards import board_from_dict, board_names, load_board
from edgekit_fpga.errors import BoardError


def test_every_board_file_reads_and_has_its_own_name():
    assert [load_board(name).name for name in board_names()] == list(board_names())
    assert {"ecp5-85f", "ecp5-25f", "ice40-up5k", "generic-axi"} <= set(board_names())


def test_the_85f_has_a_16x8_array():
    assert load_board("ecp5-85f").array.macs == 128


def test_a_board_survives_plain_data():
    board = load_board("ecp5-25f")
    assert board_from_dict(board.as_dict()) == board


def test_an_unknown_board_names_those_there_are():
    with pytest.raises(BoardError) as error:
        load_board("../ecp5-85f")
    assert "ecp5-85f" in error.value.hint


@pytest.mark.parametrize(
    ("name", "value"),
    [("reduction_lanes", 12), ("requantizers", 3), ("banks", 3), ("latency", 0), ("lookups", True)],
)
def test_an_array_that_cannot_be_built_is_refused(name, value):
    array = load_board("ecp5-85f").array
    with pytest.raises(BoardError):
        dataclasses.replace(array, **{name: value})
