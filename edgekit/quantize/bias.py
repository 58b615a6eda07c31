"""Bias correction: what rounding the weights adds to a channel's mean is taken from its bias.

With e the rounding error of a layer's weights, its outputs are off by e applied to its inputs. The
mean of this over real inputs is known for each channel, and a bias can take it away exactly (Nagel
et al., ICCV 2019, section 4.2; here the inputs' mean is measured, padding included).
"""

import numpy as np
import onnx

from edgekit.quantize.calibration import batches
from edgekit.quantize.graph import Floats, Wiring, attributes, layers
from edgekit.quantize.runtime import Tensors, run, session
from edgekit.quantize.scales import weight_scales

_ERROR = "edgekit.weight_error."


def correct_bias(model: onnx.ModelProto, calibration: Tensors, *, power_of_two: bool) -> int:
    """Correct the bias of every layer in the model itself.

    Args:
        model: a float graph.
        calibration: for each graph input an array [N, ...].
        power_of_two: whether the weights' scales will be powers of two.

    Returns:
        How many layers were corrected.
    """
    corrected = list(layers(Wiring(model)))
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    for layer in corrected:
        error = _rounding_error(layer.weights, power_of_two=power_of_two)
        transposed = error.T if layer.transposed else error
        name = _ERROR + layer.node.name
        watched.graph.initializer.append(
            onnx.numpy_helper.from_array(np.ascontiguousarray(transposed), f"{name}.weights")
        )
        twin = onnx.helper.make_node(
            layer.node.op_type,
            [layer.node.input[0], f"{name}.weights"],
            [name],
            **attributes(layer.node),
        )
        watched.graph.node.append(twin)
        watched.graph.output.append(onnx.ValueInfoProto(name=name))

    totals: dict[str, Floats] = {}
    running = session(watched.SerializeToString())
    pieces = batches(calibration)
    for batch in pieces:
        for name, value in run(running, batch).items():
            means = value.reshape(*value.shape[:2], -1).mean(axis=2, dtype=np.float64)
            totals[name] = totals.get(name, np.float32(0)) + means.sum(axis=0)
    count = sum(len(next(iter(batch.values()))) for batch in pieces)
    for layer in corrected:
        bias = layer.bias
        before = np.zeros(len(layer.weights), np.float32) if bias is None else bias
        layer.set_bias((before - totals[_ERROR + layer.node.name] / count).astype(np.float32))
    return len(corrected)


def _rounding_error(weights: Floats, *, power_of_two: bool) -> Floats:
    """What int8 adds to the weights [O, ...]."""
    scale = weight_scales(weights, power_of_two=power_of_two)
    scale = scale.reshape(-1, *[1] * (weights.ndim - 1))
    rounded = np.clip(np.rint(weights / scale), -127, 127) * scale
    error: Floats = (rounded - weights).astype(np.float32)
    return error
