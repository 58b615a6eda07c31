"""Where the taps of a window lie in the reduction lanes: the order of DWCONV's weights.

The window of the RTL (`rtl/window.sv`) is a grid of S x S lanes, S = floor(sqrt(T)), whose rows
are shift registers: kernel row ky is row ky of the grid, and the column read last lies in its
lane 0. A kernel that does not fit the grid, or whose rows are dilated, takes the T lanes as one
shift register through which the columns go row after row. The compact core reads taps one by one
and keeps them in the order ky, kx.
"""

import math

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga import isa
from edgekit_fpga.boards import COMPACT, Array


def grid_side(array: Array) -> int:
    """Rows and columns of the grid."""
    return math.isqrt(array.window_taps)


def in_grid(layer: isa.Layer, array: Array) -> bool:
    """Whether the window's rows are rows of the grid, so that banks are read side by side."""
    return (
        array.core != COMPACT
        and layer.dilation_height == 1
        and max(layer.kernel_height, layer.kernel_width) <= grid_side(array)
    )


def tap_lanes(layer: isa.Layer, array: Array) -> NDArray[np.intp]:
    """The lane of every tap, step * I + i, shape (kernel_height, kernel_width)."""
    high, wide = layer.kernel_height, layer.kernel_width
    ky, kx = np.indices((high, wide))
    if array.core == COMPACT:
        return ky * wide + kx
    if in_grid(layer, array):
        return ky * grid_side(array) + (wide - 1 - kx)
    return high * wide - 1 - (kx * high + ky)


def window_steps(layer: isa.Layer, array: Array) -> int:
    """The weight words that hold a window's taps: up to the highest lane that has one."""
    highest = layer.kernel_height * layer.kernel_width - 1
    if in_grid(layer, array):
        highest = (layer.kernel_height - 1) * grid_side(array) + layer.kernel_width - 1
    return highest // array.reduction_lanes + 1
