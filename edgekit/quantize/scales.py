"""Scales and zero points of int8: value = scale * (integer - zero point).

ONNX Runtime's quantizer chooses its own; these are for what it does not offer, scales that are
powers of two, and for knowing beforehand what it will do with weights.
"""

import math

import numpy as np
import onnx

from edgekit.quantize.calibration import Ranges
from edgekit.quantize.graph import Floats, Wiring, layers

_LOW, _HIGH = -128, 127
_STEPS = _HIGH - _LOW
_LARGEST_WEIGHT = 127  # symmetric: -128 is not used


def weight_scales(weights: Floats, *, power_of_two: bool) -> Floats:
    """The scale of each output channel, [O], of weights [O, ...] with zero point 0."""
    largest = np.abs(weights.reshape(len(weights), -1)).max(axis=1).astype(np.float64)
    scale = np.where(largest > 0, largest / _LARGEST_WEIGHT, 1.0)
    return (np.exp2(np.ceil(np.log2(scale))) if power_of_two else scale).astype(np.float32)


def power_of_two_activation(low: float, high: float) -> tuple[float, int]:
    """The least power of two that covers the range as a scale, and its zero point."""
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return 1.0, 0
    exponent = math.ceil(math.log2((high - low) / _STEPS))
    while True:
        scale = 2.0**exponent
        zero = max(_LOW, min(_HIGH, round(_LOW - low / scale)))
        if scale * (_HIGH - zero) >= high - scale / 2:
            return scale, zero
        exponent += 1  # rounding the zero point has pushed the other end out


def power_of_two_overrides(model: onnx.ModelProto, ranges: Ranges) -> dict[str, list[object]]:
    """ONNX Runtime's `TensorQuantOverrides` that make every scale of the graph a power of two."""
    overrides: dict[str, list[object]] = {}
    for name, (low, high) in ranges.items():
        scale, zero = power_of_two_activation(low, high)
        overrides[name] = [
            {"scale": np.array(scale, np.float32), "zero_point": np.array(zero, np.int8)}
        ]
    for layer in layers(Wiring(model)):
        axis = 1 if layer.transposed else 0
        overrides[layer.node.input[1]] = [
            {"axis": axis, "scale": np.array(scale), "zero_point": np.array(0, np.int8)}
            for scale in weight_scales(layer.weights, power_of_two=True)
        ]
    return overrides
