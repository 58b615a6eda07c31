"""The NPU's exact arithmetic (docs/npu-isa.md), vectorized, and how its constants are made.

`round_fixed` is the hardware's rounder: the exact product rounded to float32 and then to an
integer, done in integers with a tie window. `float_requantize` is the same function through
float32, as ONNX Runtime computes it; it is what fast inference uses, and the proof holds the two
against each other.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]

MANTISSA_BITS = 24
MAX_SHIFT = 63
TABLE_FRACTION = 24


@dataclass(frozen=True)
class Multiplier:
    """A float32 as M * 2^-shift, M its 24-bit mantissa (or 0)."""

    mantissa: int
    shift: int

    @classmethod
    def of(cls, value: float) -> "Multiplier":
        """The multiplier equal to the non-negative float32 `value`.

        Raises:
            ValueError: not finite, negative, too large for shift 0; too small becomes zero.
        """
        if not np.isfinite(value) or value < 0:
            raise ValueError(f"{value} is no multiplier")
        if value == 0:
            return cls(0, 0)
        fraction, exponent = np.frexp(np.float32(value))
        shift = MANTISSA_BITS - int(exponent)
        if shift < 0:
            raise ValueError(f"multiplier {value} is too large")
        if shift > MAX_SHIFT:
            return cls(0, 0)
        return cls(int(fraction * (1 << MANTISSA_BITS)), shift)

    def __float__(self) -> float:
        return float(np.ldexp(float(self.mantissa), -self.shift))


def bit_length(values: Int64) -> Int64:
    """The number of bits of each non-negative value below 2^62; 0 for 0."""
    exponent = np.frexp(values.astype(np.float64))[1].astype(np.int64)
    # a value just below a power of two may round up to it in float64
    return exponent - ((exponent > 0) & (values < (np.int64(1) << np.maximum(exponent - 1, 0))))


def round_fixed(values: Int64, fraction: NDArray[np.integer] | int) -> Int64:
    """Round S * 2^-F as the hardware does: to float32, then to an integer, half to even.

    Args:
        values: S, any shape, |S| < 2^62.
        fraction: F >= 0, one number or an array that broadcasts with S.
    """
    bits = np.asarray(fraction, dtype=np.int64)
    magnitude = np.abs(values)
    window = np.where(
        (length := bit_length(magnitude)) > MANTISSA_BITS,
        np.int64(1) << np.maximum(length - MANTISSA_BITS - 1, 0),
        0,
    )
    whole = magnitude >> bits
    rest = magnitude - (whole << bits)
    half = np.where(bits > 0, np.int64(1) << np.maximum(bits - 1, 0), np.int64(1) << 62)
    tie = np.abs(rest - half) <= window
    rounded = whole + np.where(tie, whole & 1, rest > half)
    return np.where(values < 0, -rounded, rounded)


def requantize(
    total: Int64,
    mantissa: Int64 | np.int64,
    shift: Int64 | np.int64,
    zero_point: int,
    low: int,
    high: int,
) -> Int8:
    """The requantizer in integers: `total` is accumulator + bias, channels on the last axis."""
    rounded = round_fixed(np.asarray(total * mantissa), np.asarray(shift))
    return np.clip(rounded + zero_point, low, high).astype(np.int8)


def float_requantize(
    total: NDArray[np.generic],
    multiplier: Float32 | np.float32,
    zero_point: int,
    low: int,
    high: int,
) -> Int8:
    """The requantizer through float32: clamp(rne(f32(f32(total) * multiplier)) + zero point)."""
    product: Float32 = total.astype(np.float32)
    with np.errstate(over="ignore"):  # beyond float32 is far beyond what saturates
        product *= multiplier
    np.rint(product, out=product)
    # clamping before the zero point is added keeps the sum exact
    np.clip(product, low - zero_point, high - zero_point, out=product)
    product += np.float32(zero_point)
    return product.astype(np.int8)


def fixed_add(
    first: Int8,
    entries: Int64,
    multiplier: int,
    shift: int,
    offset: int,
    low: int,
    high: int,
) -> Int8:
    """The adder: `entries` are the add table's values for each second operand."""
    fraction = max(shift, TABLE_FRACTION)
    total = (first.astype(np.int64) * multiplier << (fraction - shift)) + (
        entries << (fraction - TABLE_FRACTION)
    )
    return np.clip(round_fixed(total, fraction) + offset, low, high).astype(np.int8)


def fused_multiply_add(first: ArrayLike, second: ArrayLike, third: ArrayLike) -> Float32:
    """float32 fma(first, second, third) for a `first` of at most 9 bits, through float64."""
    one, two, three = (np.asarray(value, dtype=np.float64) for value in (first, second, third))
    return np.asarray(one * two + three).astype(np.float32)
