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


def difference(first: Quantization, second: Quantization, result: Quantization) -> Int8:
    """A float Sub between dequantized operands, quantized: (256, 256), [first, second].

    QuantizeLinear rounds before it adds the zero point.
    """
    a = dequantize(BYTES, float(first.scale), first.zero_point)
    b = dequantize(BYTES, float(second.scale), second.zero_point)
    rounded = np.rint((a[:, None] - b[None, :]) / result.scale) + result.zero_point
    stored: Int8 = np.clip(rounded, -128, 127).astype(np.int8)
    return stored


def adder(
    operand: str,
    made: str,
    first: Quantization,
    second: Quantization,
    result: Quantization,
    *,
    minus: bool = False,
    swapped: bool = False,
) -> Residual | None:
    """The adder's constants for `made` = first + second, or first - second.

    Args:
        operand: the tensor read through the table: the second, or the first where `swapped`.
        made: the result's name.
        first: quantization of the graph's first operand.
        second: quantization of its second operand.
        result: quantization of the result.
        minus: the difference, as `difference` has it; else the sum, as `expected` has it.
        swapped: the graph's second operand is the one that flows by, the first lies in memory.

    Returns:
        None where no constants reproduce the function on all 65,536 pairs.
    """
    form = _difference if minus else _sum
    ratio, entries, offset = form(first, second, result, swapped=swapped)
    if not (np.isfinite(ratio) and (np.abs(entries) < TABLE_LIMIT >> TABLE_FRACTION).all()):
        return None
    shift = min(max(24 - int(np.frexp(ratio)[1]), SHIFT_RANGE[0]), SHIFT_RANGE[-1])
    multiplier = round(ratio * 2.0**shift)
    table = np.rint(entries * 2.0**TABLE_FRACTION).astype(np.int64)
    if abs(multiplier) >= 1 << 24 or np.abs(table).max() >= TABLE_LIMIT - _CORRECTIONS.max():
        return None
    add = Residual(operand, made, table, multiplier, shift, offset, -128, 127, minus, swapped)
    return _corrected(add, wanted(add, first, second, result))


def wanted(add: Residual, first: Quantization, second: Quantization, result: Quantization) -> Int8:
    """What the adder must give for every pair of bytes: (256, 256), [flowing by, in memory]."""
    goal = (difference if add.minus else expected)(first, second, result)
    return np.clip(goal.T if add.swapped else goal, add.low, add.high)


def _sum(
    first: Quantization, second: Quantization, result: Quantization, *, swapped: bool
) -> tuple[float, NDArray[np.float64], int]:
    """Ratio of the operand that flows by, table of the other, offset behind the rounding."""
    ratio_a, inner = _inner(first, second, result)
    shift_a = _offset(first)
    if swapped:
        base = inner[BYTES == 0].astype(np.float64)  # at stored byte 0 of the second operand
        entries = (BYTES.astype(np.int64) + shift_a) * np.float64(ratio_a) + base
        return float(np.float32(second.scale / result.scale)), entries, -_offset(result)
    entries = inner.astype(np.float64) + shift_a * np.float64(ratio_a)
    return float(ratio_a), entries, -_offset(result)


def _difference(
    first: Quantization, second: Quantization, result: Quantization, *, swapped: bool
) -> tuple[float, NDArray[np.float64], int]:
    """The same for a difference; the zero point of the result stays outside the sum."""
    scales = float(first.scale) / float(result.scale), -float(second.scale) / float(result.scale)
    zeros = first.zero_point, second.zero_point
    flowing, resting = (1, 0) if swapped else (0, 1)
    ratio = float(np.float32(scales[flowing]))
    stored = BYTES.astype(np.float64)
    entries = (stored - zeros[resting]) * scales[resting] - zeros[flowing] * ratio
    return ratio, entries, result.zero_point


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
