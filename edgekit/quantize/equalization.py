"""Cross-layer equalization: channels of one tensor brought to the same range.

A tensor has one scale in int8, so that a channel whose values are a hundredth of another's keeps
few of its bits. Between two layers with nothing but ReLU and pooling, a channel can be divided by
any factor in the first and multiplied by it in the second, and the graph computes the same. With
r1, r2 the largest weights that make and take the channel, the factor sqrt(r1 / r2) gives both the
range sqrt(r1 * r2) (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias
Correction", ICCV 2019, section 4.1).
"""

from collections.abc import Iterator

import numpy as np
import onnx

from edgekit.quantize.graph import Floats, Layer, Wiring, layers

# operators f with f(a * x) = a * f(x) for a > 0, each channel for itself
_TRANSPARENT = {
    "Relu",
    "LeakyRelu",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Flatten",
    "Identity",
    "Dropout",
}
_ROUNDS = 50
_CONVERGED = 1e-3


def equalize(model: onnx.ModelProto) -> int:
    """Equalize every pair of layers in the model itself, until nothing moves any more.

    Returns:
        How many pairs there are.
    """
    wiring = Wiring(model)
    pairs = list(_pairs(wiring))
    for _ in range(_ROUNDS):
        moved = max((_equalize(first, second) for first, second in pairs), default=0.0)
        if moved < _CONVERGED:
            break
    return len(pairs)


def _pairs(wiring: Wiring) -> Iterator[tuple[Layer, Layer]]:
    known = {layer.node.name: layer for layer in layers(wiring)}
    for first in known.values():
        after = wiring.only_taker(first.node.output[0])
        while after is not None and after.op_type in _TRANSPARENT:
            after = wiring.only_taker(after.output[0])
        second = known.get(after.name) if after is not None else None
        if second is not None and _fits(first, second):
            yield first, second


def _fits(first: Layer, second: Layer) -> bool:
    """Whether the second's inputs are the first's channels: all of them, each in one group."""
    channels, taken = len(first.weights), _inputs(second)
    if second.node.op_type == "Gemm":
        return taken % channels == 0  # a flattened image: some inputs for each channel
    return second.groups in (1, channels) and taken * second.groups == channels


def _inputs(layer: Layer) -> int:
    return int(layer.weights.shape[1])


def _equalize(first: Layer, second: Layer) -> float:
    """Move the pair to equal ranges; how far the factor furthest from 1 is from it."""
    made, taken = first.weights, second.weights
    depthwise = second.groups > 1
    by_input = _by_input(taken, len(made), depthwise=depthwise)
    largest_made = np.abs(made.reshape(len(made), -1)).max(axis=1)
    largest_taken = np.abs(by_input.reshape(len(made), -1)).max(axis=1)
    used = (largest_made > 0) & (largest_taken > 0)
    factor = np.ones(len(made), np.float32)
    factor[used] = np.sqrt(largest_made[used] / largest_taken[used])

    first.set_weights(made / factor.reshape(-1, *[1] * (made.ndim - 1)))
    bias = first.bias
    if bias is not None:
        first.set_bias(bias / factor)
    scaled = by_input * factor.reshape(-1, *[1] * (by_input.ndim - 1))
    second.set_weights(_by_output(scaled, taken, depthwise=depthwise))
    return float(np.abs(np.log(factor)).max())


def _by_input(weights: Floats, channels: int, *, depthwise: bool) -> Floats:
    """The weights [C, ...] that take each of the first layer's channels."""
    if depthwise:
        return weights.reshape(channels, -1)
    return np.moveaxis(weights.reshape(len(weights), channels, -1), 1, 0)


def _by_output(by_input: Floats, like: Floats, *, depthwise: bool) -> Floats:
    """The inverse of `_by_input`, in the shape of `like`."""
    if depthwise:
        return by_input.reshape(like.shape)
    return np.moveaxis(by_input, 0, 1).reshape(like.shape)
