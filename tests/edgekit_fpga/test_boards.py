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


def test_each_boards_uart_is_as_fast_as_its_clock_can_make_it():
    clocks = {name: load_board(name).clocks_per_bit for name in ("ecp5-85f", "ice40-up5k")}
    assert clocks == {"ecp5-85f": 40, "ice40-up5k": 7}


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ({"kind": "usb"}, "kind is 'usb', not axi or serial"),
        ({"kind": "serial"}, "baud of kind serial is 0"),
        ({"kind": "axi", "baud": 9600}, "baud of kind axi is 9600"),
        ({"kind": "serial", "baud": 2e6}, "baud of kind serial is 2000000.0"),
        ({"kind": "serial", "baud": 30_000_000}, "80 MHz make no 30000000 baud"),
        ({"kind": "serial", "baud": 200_000_000}, "80 MHz make no 200000000 baud"),
        (
            {"kind": "serial", "bytes_per_cycle": 4},
            "a board's description is wrong: .*bytes_per_cycle",
        ),
    ],
)
def test_a_link_that_cannot_be_is_refused(link, message):
    description = load_board("ecp5-85f").as_dict() | {"link": link}
    with pytest.raises(BoardError, match=message):
        board_from_dict(description)
