"""Constants of a product of two activations, from ONNX Runtime's float32 formula.

QLinearMul computes, with m = f32(f32(sa * sb) / sc),

    rne(f32(f32(f32((a - za) * (b - zb)) * m) + zc))

The zero point joins before the rounding, so a tie falls to the even *sum*, and sums are rounded
more coarsely than products. The requantizer adds it afterwards. Two things are free to choose: a
mantissa next to m's, and how much of the zero point goes in front of the rounding, as a bias that
is nearly a whole number of results: an odd one turns every tie to the other side.

One product in two hundred has a tie below zero and one above that want different constants. Such a
product is taken twice, the results up to the zero point and those from it on, each with constants
of its own, and the two are added.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga.arithmetic import Int8, Int64, Multiplier, requantize
from edgekit_fpga.compiler.ir import Multiply, Quantization

# in results; more than what mantissas and biases tried can move a product
NEAR_A_TIE = 1e-3
LARGEST_OFFSET = 4e-4
LARGEST_BIAS = 1 << 23
# mantissas tried with each bias
_STEPS = np.array(sorted(range(-24, 25), key=abs), np.int64)


def expected(products: Int64, multiplier: np.float32, result: Quantization) -> Int8:
    """The formula's stored result for each product of centred operands."""
    scaled = products.astype(np.float32) * multiplier
    summed = np.rint(scaled + np.float32(result.graph_zero_point))
    offset = 128 if result.unsigned else 0
    stored: Int8 = (np.clip(summed, -128 + offset, 127 + offset) - offset).astype(np.int8)
    return stored


@dataclass(frozen=True)
class Product:
    """A requantization of products: M * 2^-shift * (product + bias), the zero point, the bounds."""

    bias: int
    mantissa: int
    shift: int
    zero_point: int
    low: int = -128
    high: int = 127


def parts(
    first: Quantization, second: Quantization, result: Quantization
) -> tuple[Product, ...] | None:
    """One requantization that reproduces the formula on every pair, or two: up to the zero point,
    and from it on. None where there are neither."""
    if whole := constants(first, second, result):
        return (whole,)
    below = constants(first, second, result, high=result.zero_point)
    above = constants(first, second, result, low=result.zero_point)
    return (below, above) if below and above else None


def constants(
    first: Quantization,
    second: Quantization,
    result: Quantization,
    low: int = -128,
    high: int = 127,
) -> Product | None:
    """What reproduces the formula, clamped to stored results from `low` to `high`, on every pair;
    None where nothing does."""
    multiplier = formula_multiplier(first, second, result)
    exact = Multiplier.of(float(multiplier))
    if exact.mantissa == 0:
        return None
    products = np.unique(_products(first, second))
    goal = expected(products, multiplier, result).clip(low, high)
    # only products near a tie can go wrong; they alone choose among the constants
    distance = np.abs(np.abs(products * float(multiplier)) % 1 - 0.5)
    near = distance < NEAR_A_TIE
    mantissas, shift = exact.mantissa + _STEPS, np.int64(exact.shift)
    mantissas = mantissas[(mantissas > 0) & (mantissas < 1 << 24)]
    for zero_point, bias in _biases(float(multiplier), result.zero_point):
        made = requantize(products[near] + bias, mantissas[:, None], shift, zero_point, low, high)
        for mantissa in mantissas[(made == goal[near]).all(axis=1)]:
            found = Product(bias, int(mantissa), exact.shift, zero_point, low, high)
            whole = requantize(products + bias, mantissa, shift, zero_point, low, high)
            if np.array_equal(whole, goal):
                return found
    return None


def formula_multiplier(
    first: Quantization, second: Quantization, result: Quantization
) -> np.float32:
    """ONNX Runtime's m."""
    return np.float32(np.float32(first.scale * second.scale) / result.scale)


def all_pairs(layer: Multiply, first: Quantization, second: Quantization) -> Int8:
    """The layer's result for every pair of bytes: shape (256, 256)."""
    mantissa, shift = np.int64(layer.mantissa), np.int64(layer.shift)
    total = _products(first, second) + layer.bias
    return requantize(total, mantissa, shift, layer.zero_point, layer.low, layer.high)


def wanted(
    layer: Multiply, first: Quantization, second: Quantization, result: Quantization
) -> Int8:
    """What the layer must give for every pair of bytes: shape (256, 256)."""
    goal = expected(_products(first, second), formula_multiplier(first, second, result), result)
    return np.clip(goal, layer.low, layer.high)


def _biases(multiplier: float, zero_point: int) -> Iterator[tuple[int, int]]:
    """(zero point behind the rounding, bias in front of it), the likeliest first."""
    yield zero_point, 0
    in_front = np.arange(zero_point - 127, zero_point + 129)
    biases = np.rint(in_front[in_front != 0] / multiplier)
    off = np.abs(biases * multiplier - in_front[in_front != 0])
    for place in np.argsort(off, kind="stable"):
        bias = int(biases[place])
        if off[place] < LARGEST_OFFSET and abs(bias) < LARGEST_BIAS:
            yield zero_point - round(bias * multiplier), bias


def _products(first: Quantization, second: Quantization) -> NDArray[np.int64]:
    """Every product of two centred operands: shape (256, 256), by stored value."""
    stored = np.arange(-128, 128, dtype=np.int64)
    return (stored - first.zero_point)[:, None] * (stored - second.zero_point)[None, :]
