"""Constants of a product of two activations, from ONNX Runtime's float32 formula.

QLinearMul computes, with m = f32(f32(sa * sb) / sc),

    rne(f32(f32(f32((a - za) * (b - zb)) * m) + zc))

The zero point joins before the rounding, so a tie falls to the even *sum*, and sums are rounded
more coarsely than products. The requantizer adds it afterwards; a mantissa next to m's gives the
same result on all 65,536 pairs nearly always, and where none does the node is refused.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga.arithmetic import Int8, Int64, Multiplier, requantize
from edgekit_fpga.compiler.ir import Quantization

# far more than what the mantissas tried can move a product
NEAR_A_TIE = 0.05
_STEPS = np.array(sorted(range(-512, 513), key=abs), np.int64)


def expected(products: Int64, multiplier: np.float32, result: Quantization) -> Int8:
    """The formula's stored result for each product of centred operands."""
    scaled = products.astype(np.float32) * multiplier
    summed = np.rint(scaled + np.float32(result.graph_zero_point))
    offset = 128 if result.unsigned else 0
    stored: Int8 = (np.clip(summed, -128 + offset, 127 + offset) - offset).astype(np.int8)
    return stored


@dataclass(frozen=True)
class Product:
    """A requantization of products: M * 2^-shift * (product + bias), then the zero point."""

    bias: int
    mantissa: int
    shift: int
    zero_point: int


def constants(first: Quantization, second: Quantization, result: Quantization) -> Product | None:
    """What reproduces the formula on every pair, or None."""
    multiplier = np.float32(np.float32(first.scale * second.scale) / result.scale)
    exact = Multiplier.of(float(multiplier))
    if exact.mantissa == 0:
        return None
    products = _products(first, second)
    goal = expected(products, multiplier, result)
    # only products near a tie can go wrong; they alone choose among the mantissas
    distance = np.abs(np.abs(products * float(multiplier)) % 1 - 0.5)
    near = distance < NEAR_A_TIE
    for outside, bias in _zero_points(float(multiplier), result.zero_point):
        for mantissa in (int(m) for m in exact.mantissa + _STEPS if 0 < m < 1 << 24):
            made = Product(bias, mantissa, exact.shift, outside)
            if np.array_equal(carried_out(made, products[near]), goal[near]):
                if np.array_equal(carried_out(made, products), goal):
                    return made
                break
    return None


def carried_out(product: Product, products: Int64) -> Int8:
    """The requantizer's result for each product."""
    mantissa, shift = np.int64(product.mantissa), np.int64(product.shift)
    total = products + product.bias
    return requantize(total, mantissa, shift, product.zero_point, -128, 127)


def _zero_points(multiplier: float, zero_point: int) -> list[tuple[int, int]]:
    """(zero point, bias): behind the rounding, or in front of it where it is a whole product."""
    inside = round(zero_point / multiplier)
    if inside * multiplier == zero_point and abs(inside) < 1 << 23:
        return [(0, inside), (zero_point, 0)]
    return [(zero_point, 0)]


def _products(first: Quantization, second: Quantization) -> NDArray[np.int64]:
    """Every product of two centred operands, once."""
    stored = np.arange(-128, 128, dtype=np.int64)
    pairs = (stored - first.zero_point)[:, None] * (stored - second.zero_point)[None, :]
    return np.unique(pairs)
