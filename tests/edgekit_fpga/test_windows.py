from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_fpga import isa
from edgekit_fpga.boards import load_board
from edgekit_fpga.windows import in_grid, tap_lanes, window_steps

GRID = load_board("ecp5-85f").array  # 16 taps, a grid of 4 x 4
COMPACT = load_board("ice40-up5k").array


def window(height, width, dilation_height=1):
    return isa.MaxPool(
        kernel_height=height, kernel_width=width, dilation_height=dilation_height, dilation_width=1
    )


def shifted_in(layer, array, side):
    """The lane of every tap after all columns of a window went in, newest words at low lanes."""
    lanes = np.full(array.window_taps, -1)
    for kx in range(layer.kernel_width):
        for ky in range(layer.kernel_height):
            tap = ky * layer.kernel_width + kx
            if in_grid(layer, array):
                row = lanes[ky * side : (ky + 1) * side]
                row[:] = np.concatenate([[tap], row[:-1]])
            else:
                lanes = np.concatenate([[tap], lanes[:-1]])
    order = np.argsort(np.where(lanes < 0, array.window_taps, lanes), kind="stable")
    return order[: layer.kernel_height * layer.kernel_width].reshape(
        layer.kernel_height, layer.kernel_width
    )


def test_a_kernel_row_is_a_row_of_the_grid_with_the_newest_column_first():
    assert tap_lanes(window(3, 3), GRID).tolist() == [[2, 1, 0], [6, 5, 4], [10, 9, 8]]


@pytest.mark.parametrize("layer", [window(2, 5), window(5, 2), window(2, 2, dilation_height=2)])
def test_kernels_beyond_the_grid_are_a_chain_of_columns(layer):
    taps = layer.kernel_height * layer.kernel_width
    flat = tap_lanes(layer, GRID).T.reshape(-1)
    assert flat.tolist() == list(range(taps - 1, -1, -1))


def test_the_compact_core_keeps_taps_in_the_order_it_reads_them():
    assert tap_lanes(window(2, 3), COMPACT).tolist() == [[0, 1, 2], [3, 4, 5]]


@given(
    taps=st.integers(1, 36),
    height=st.integers(1, 8),
    width=st.integers(1, 8),
    dilation=st.integers(1, 2),
)
def test_taps_lie_where_the_shifts_of_all_columns_leave_them(taps, height, width, dilation):
    array, layer = replace(GRID, window_taps=taps), window(height, width, dilation)
    if height * width <= taps:
        lanes = tap_lanes(layer, array)
        assert lanes.tolist() == shifted_in(layer, array, int(taps**0.5)).tolist()
        assert window_steps(layer, array) == lanes.max() // array.reduction_lanes + 1
