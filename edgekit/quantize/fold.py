"""Batch normalisation into the convolution before it: one layer, one rounding."""

import numpy as np
import onnx

from edgekit.quantize.graph import Layer, Wiring, attributes, layers

_EPSILON = 1e-5  # ONNX's default


def fold_batch_norm(model: onnx.ModelProto) -> int:
    """Fold every BatchNormalization that alone follows a layer into it, in the model itself.

    y = s * (conv(x) - mean) / sqrt(var + epsilon) + b is a convolution with scaled weights.

    Returns:
        How many were folded.
    """
    folded = 0
    while True:
        wiring = Wiring(model)
        pair = next(
            (
                (layer, norm)
                for layer in layers(wiring)
                if (norm := _norm_after(layer, wiring)) is not None
            ),
            None,
        )
        if pair is None:
            return folded
        layer, norm = pair
        _fold(layer, norm, wiring)
        model.graph.node.remove(norm)
        folded += 1


def _norm_after(layer: Layer, wiring: Wiring) -> onnx.NodeProto | None:
    after = wiring.only_taker(layer.node.output[0])
    if after is None or after.op_type != "BatchNormalization" or len(after.output) > 1:
        return None
    return after if all(name in wiring.constants for name in after.input[1:5]) else None


def _fold(layer: Layer, norm: onnx.NodeProto, wiring: Wiring) -> None:
    scale, shift, mean, variance = (
        wiring.array(name).astype(np.float64) for name in norm.input[1:5]
    )
    factor = scale / np.sqrt(variance + attributes(norm).get("epsilon", _EPSILON))
    weights = layer.weights
    bias = np.zeros(len(weights), np.float32) if layer.bias is None else layer.bias
    layer.set_weights((weights.T * factor).T.astype(np.float32))
    layer.set_bias(((bias - mean) * factor + shift).astype(np.float32))
    layer.node.output[0] = norm.output[0]
