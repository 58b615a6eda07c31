"""Constants of the adder for one QLinearAdd, from ONNX Runtime's float32 formula.

ONNX Runtime on x86-64 with FMA computes, with ra = f32(sa / sc) and rb = f32(sb / sc),

    rne(fma(A, ra, fma(B, rb, zc - fma(ra, za, f32(rb * zb)))))

The inner fma depends on B alone: it becomes the add table. `expected` is the formula itself over
all 65,536 pairs, and the proof holds the integers against it.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga.arithmetic import (
    TABLE_FRACTION,
    Float32,
    Int8,
    fixed_add,
    fused_multiply_add,
)
from edgekit_fpga.compiler.ir import Quantization, Residual
from edgekit_fpga.cpu import dequantize

BYTES = np.arange(256, dtype=np.uint8).view(np.int8)
SHIFT_RANGE = range(16, 37)
TABLE_LIMIT = 1 << 35
# units of 2^-24, nearest first: half a float32 unit of a sum below 256 is 2^-17
_CORRECTIONS = np.array(sorted(range(-256, 257), key=abs))


def expected(first: Quantization, second: Quantization, result: Quantization) -> Int8:
    """The formula's result for every pair of bytes: shape (256, 256), [first, second]."""
    ratio_a, inner = _inner(first, second, result)
    a = BYTES.astype(np.int64) + _offset(first)
    total = fused_multiply_add(a[:, None], ratio_a, inner[None, :])
    rounded = np.rint(total).astype(np.int64)
    offset = _offset(result)
    return (np.clip(rounded, -128 + offset, 127 + offset) - offset).astype(np.int8)


def residual(
    operand: str,
    made: str,
    first: Quantization,
    second: Quantization,
    result: Quantization,
    *,
    swapped: bool = False,
) -> Residual | None:
    """The adder's constants for `made` = first + second, `operand` being the one in memory.

    Args:
        operand: the tensor read through the table: the second, or the first where `swapped`.
        made: the result's name.
        first: quantization of the graph's first operand.
        second: quantization of its second operand.
        result: quantization of the sum.
        swapped: the graph's second operand is the one that flows by, the first lies in memory.

    Returns:
        None where no constants reproduce the formula on all 65,536 pairs.
    """
    goal = expected(first, second, result)
    ratio_a, inner = _inner(first, second, result)
    offset = _offset(result)
    if swapped:
        ratio = np.float32(second.scale / result.scale)
        base = inner[BYTES == 0].astype(np.float64)  # at stored byte 0 of the second operand
        entries = (BYTES.astype(np.int64) + _offset(first)) * np.float64(ratio_a) + base
        goal = goal.T
    else:
        ratio = ratio_a
        entries = inner.astype(np.float64) + _offset(first) * np.float64(ratio_a)
    return _fitted(operand, made, goal, float(ratio), entries, -offset)


def difference(
    operand: str,
    made: str,
    first: Quantization,
    second: Quantization,
    result: Quantization,
) -> Residual | None:
    """The adder's constants for a float Sub between dequantized operands, `operand` the second.

    QuantizeLinear rounds before it adds the zero point: the offset stays outside the sum.
    """
    a = dequantize(BYTES, float(first.scale), first.zero_point)
    b = dequantize(BYTES, float(second.scale), second.zero_point)
    real = a[:, None] - b[None, :]
    rounded = np.rint(real / result.scale) + result.zero_point
    goal = np.clip(rounded, -128, 127).astype(np.int8)
    ratio = float(np.float32(first.scale / result.scale))
    scale_b = float(second.scale) / float(result.scale)
    stored = BYTES.astype(np.float64)
    entries = -(stored - second.zero_point) * scale_b - first.zero_point * ratio
    return _fitted(operand, made, goal, ratio, entries, result.zero_point)


def _fitted(
    operand: str,
    made: str,
    goal: Int8,
    ratio: float,
    entries: NDArray[np.float64],
    offset: int,
) -> Residual | None:
    """The adder whose product is `ratio` and whose table is near `entries`, equal to `goal`."""
    shift = min(max(24 - int(np.frexp(ratio)[1]), SHIFT_RANGE[0]), SHIFT_RANGE[-1])
    multiplier = round(ratio * 2.0**shift)
    table = np.rint(entries * 2.0**TABLE_FRACTION).astype(np.int64)
    if multiplier >= 1 << 24 or np.abs(table).max() >= TABLE_LIMIT - _CORRECTIONS.max():
        return None
    return _corrected(Residual(operand, made, table, multiplier, shift, offset, -128, 127), goal)


def _corrected(add: Residual, goal: Int8) -> Residual | None:
    """The adder with the entries that miss `goal` moved, by less than float32's own error."""
    table = add.table.copy()
    for entry in np.flatnonzero((all_pairs(add) != goal).any(axis=0)):
        moved = table[entry] + _CORRECTIONS
        sums = fixed_add(
            BYTES[:, None], moved, add.multiplier, add.shift, add.offset, add.low, add.high
        )
        right = np.flatnonzero((sums == goal[:, entry, None]).all(axis=0))
        if not len(right):
            return None
        table[entry] = moved[right[0]]
    return replace(add, table=table)


def all_pairs(add: Residual) -> Int8:
    """The adder's result for every pair of bytes: shape (256, 256), [flowing by, in memory]."""
    entries = add.table[BYTES.view(np.uint8)]
    grid = np.broadcast_to(BYTES[:, None], (256, 256))
    return fixed_add(
        grid, entries[None, :], add.multiplier, add.shift, add.offset, add.low, add.high
    )


def _inner(
    first: Quantization, second: Quantization, result: Quantization
) -> tuple[np.float32, Float32]:
    ratio_a = np.float32(first.scale / result.scale)
    ratio_b = np.float32(second.scale / result.scale)
    zero_a, zero_b = np.float32(first.graph_zero_point), np.float32(second.graph_zero_point)
    product = np.float32(ratio_b * zero_b)
    shifted = fused_multiply_add(zero_a, ratio_a, product)
    constant = np.float32(result.graph_zero_point) - shifted
    b = BYTES.astype(np.int64) + _offset(second)
    inner = fused_multiply_add(b, ratio_b, constant)
    return ratio_a, inner


def _offset(quantization: Quantization) -> int:
    return 128 if quantization.unsigned else 0
