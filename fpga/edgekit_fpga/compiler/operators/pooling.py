"""Pooling: the largest value, averages."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga.arithmetic import Int64, float_requantize
from edgekit_fpga.compiler import ir
from edgekit_fpga.compiler.builder import Builder, Node, Unsupported, quantization_json
from edgekit_fpga.compiler.operators.linear import conv_layer, spatial
from edgekit_fpga.cpu import CpuOp


def max_pool(b: Builder, node: Node) -> None:
    """MaxPool on quantized values; order is kept by quantization, so real views work too."""
    if len([name for name in node.outputs if name]) > 1:
        raise Unsupported("it also gives indices")
    held = b.source(node.inputs[0])
    tensor = b.tensors[held]
    kernel = tuple(node.attributes["kernel_shape"])
    window, out = spatial(node, list(tensor.shape[1 : 1 + len(kernel)]), kernel)
    made = b.quantized_name(node)
    b.add_tensor(made, (tensor.shape[0], *out[: len(kernel)]), tensor.quantization)
    b.layers.append(ir.MaxPool(node.name, held, made, window=window))


def global_average_pool(b: Builder, node: Node) -> None:
    """QLinearGlobalAveragePool: an average over all pixels, m = f32(xs / f32(ys * pixels))."""
    x, xs, xz, ys, yz = node.inputs
    if node.attributes.get("channels_last", 0):
        raise Unsupported("channels come last")
    b.entry(x, b.quantization(xs, xz))
    average_all(b, node.name, x, node.outputs[0], b.quantization(ys, yz))


def average_all(b: Builder, name: str, source: str, made: str, outgoing: ir.Quantization) -> None:
    """The average over all pixels of each channel."""
    held = b.source(source)
    tensor = b.tensors[held]
    channels, height, width = tensor.shape
    pixels = np.float32(height * width)
    multiplier = np.float32(tensor.quantization.scale / np.float32(outgoing.scale * pixels))
    if not np.isfinite(multiplier):
        raise Unsupported("its scales differ by more than float32 holds")
    rank = len(b.shapes[source])
    weights = np.ones((channels, 1, height, width), np.int8)
    conv_layer(
        b, name, held, made, (channels, *([1] * (rank - 1))), weights,
        np.zeros(channels), np.full(channels, multiplier), outgoing,
        ir.Window((height, width)), channels, (-128, 127), products=0,
    )  # fmt: skip


def qlinear_average_pool(b: Builder, node: Node) -> None:
    """QLinearAveragePool."""
    x, xs, xz, ys, yz = node.inputs
    if node.attributes.get("channels_last", 0):
        raise Unsupported("channels come last")
    held = b.entry(x, b.quantization(xs, xz))
    average(b, node, held, node.outputs[0], b.quantization(ys, yz))


@dataclass(frozen=True)
class _Average:
    """Requantization of a window's sum: multiplier, zero point behind it, bias in front of it."""

    multiplier: np.float32
    zero_point: int
    bias: int


def average(b: Builder, node: Node, held: str, made: str, outgoing: ir.Quantization) -> None:
    """AveragePool as a depthwise convolution with weights of one.

    ONNX Runtime adds float32 values one by one. Where some reachable sum falls so near a tie that
    the order of the additions decides it, the CPU before or behind the NPU does the same; with
    `integer_averages` the sum is an integer, and rounded as a convolution with such weights is.
    """
    tensor = b.tensors[held]
    kernel = tuple(int(size) for size in node.attributes["kernel_shape"])
    rank = len(kernel)
    if any(size != 1 for size in node.attributes.get("dilations", [])):
        raise Unsupported("its windows are dilated")
    window, out = spatial(node, list(tensor.shape[1 : 1 + rank]), kernel)
    shape = (tensor.shape[0], *out[:rank])
    reason = "windows at the border average fewer elements"
    constants = None
    if node.attributes.get("count_include_pad", 0) or not _touches_padding(tensor, window, out):
        reason = f"averages of {window.taps} elements fall on ties, which the order of a float sum"
        reason += " decides"
        constants = average_constants(tensor.quantization, outgoing, window.taps)
        if constants is None and b.integer_averages:
            constants = _integer_constants(tensor.quantization, outgoing, window.taps)
            b.integers.append(node.name)
    if constants is None:
        _on_cpu(b, node, held, made, shape, window, outgoing, reason)
        return
    channels = tensor.shape[0]
    conv_layer(
        b, node.name, held, made, shape, np.ones((channels, 1, *window.kernel), np.int8),
        np.full(channels, constants.bias), np.full(channels, constants.multiplier),
        replace(outgoing, zero_point=constants.zero_point), window, channels, (-128, 127),
        products=0,
    )  # fmt: skip
    b.tensors[made] = replace(b.tensors[made], quantization=outgoing)


def _on_cpu(
    b: Builder,
    node: Node,
    held: str,
    made: str,
    shape: tuple[int, ...],
    window: ir.Window,
    outgoing: ir.Quantization,
    reason: str,
) -> None:
    """Average before the NPU where its input is the NPU's, else behind it."""
    rank = len(shape) - 1
    if node.attributes.get("ceil_mode", 0) and node.attributes.get("count_include_pad", 0):
        raise Unsupported(f"{reason}, and ceil_mode counts padding")
    incoming = quantization_json(b.tensors[held].quantization)
    attributes = quantization_json(outgoing) | {
        "in_scale": incoming["scale"],
        "in_zero_point": incoming["zero_point"],
        "kernel": list(window.kernel[:rank]),
        "stride": list(window.stride[:rank]),
        "pads": list(window.pad[:rank]),
        "out": list(shape[1:]),
        "count_include_pad": bool(node.attributes.get("count_include_pad", 0)),
    }
    operation = CpuOp("QLinearAveragePool", (held,), made, attributes)
    if held in b.entries and len(b.shapes[held]) == len(shape):
        b.before.append(operation)
        b.add_tensor(made, shape, outgoing)
        b.entries.append(made)
        return
    hint = "; compile with integer averages, or quantize with power-of-two scales"
    b.make_late(made, shape, operation, outgoing, f"it needs {node.name}, whose {reason}{hint}")


def _touches_padding(tensor: ir.Tensor, window: ir.Window, out: tuple[int, int]) -> bool:
    ends = [
        (size - 1) * stride - pad + (kernel - 1) * dilation + 1
        for size, stride, pad, kernel, dilation in zip(
            out, window.stride, window.pad, window.kernel, window.dilation, strict=True
        )
    ]
    return max(window.pad) > 0 or ends[0] > tensor.shape[1] or ends[1] > tensor.shape[2]


def _integer_constants(incoming: ir.Quantization, outgoing: ir.Quantization, taps: int) -> _Average:
    """What QLinearConv does with weights of one and a weight scale of 1 / taps."""
    weight = np.float32(1) / np.float32(taps)
    multiplier = np.float32(np.float32(incoming.scale * weight) / outgoing.scale)
    return _Average(multiplier, outgoing.zero_point, 0)


def average_constants(
    incoming: ir.Quantization, outgoing: ir.Quantization, taps: int
) -> _Average | None:
    """What equals ONNX Runtime's float32 for every sum, or None.

    ONNX Runtime adds float32 values one by one, divides by their number and the scale, adds the
    zero point and rounds. What it makes of a tie depends on the order of the sum, unless the scale
    is a power of two; so every reachable sum must be clear of ties by that sum's largest error.
    """
    multiplier = np.float32(incoming.scale / np.float32(outgoing.scale * np.float32(taps)))
    sums = np.arange(taps * (-128 - incoming.zero_point), taps * (127 - incoming.zero_point) + 1)
    exact = np.frexp(incoming.scale)[0] == 0.5
    offset = 128 if outgoing.unsigned else 0
    mean = (sums * incoming.scale).astype(np.float32) / np.float32(taps)
    value = mean / outgoing.scale
    slack = np.zeros(len(sums)) if exact else _float_error(sums, incoming, outgoing, taps)
    ends = [
        np.clip(
            np.rint((value + way).astype(np.float32) + np.float32(outgoing.graph_zero_point))
            - offset,
            -128,
            127,
        )
        for way in (-slack, slack)
    ]
    choices = [(outgoing.zero_point, 0)]
    inside = round(outgoing.zero_point / float(multiplier))
    if inside * float(multiplier) == outgoing.zero_point:
        choices.insert(0, (0, inside))
    for behind, bias in choices:
        made = float_requantize(sums + bias, multiplier, behind, -128, 127)
        if np.array_equal(made, ends[0]) and np.array_equal(made, ends[1]):
            return _Average(multiplier, behind, bias)
    return None


def _float_error(
    sums: Int64, incoming: ir.Quantization, outgoing: ir.Quantization, taps: int
) -> NDArray[np.float64]:
    """How far ONNX Runtime's average can be from the exact one, in results, for each sum.

    Each of the real values, partial sums and quotients is off by at most 2^-24 of itself. Partial
    sums are largest where all positive values of a window come first.
    """
    above, below = 127 - incoming.zero_point, 128 + incoming.zero_point
    negatives = (taps * above - sums) / 255  # as many as there can be, each the least
    most = np.maximum(sums + negatives * below, negatives * below)
    ratio = float(incoming.scale) / float(outgoing.scale)
    added = (taps * most + 2 * most) / taps * ratio
    error: NDArray[np.float64] = (added + 4 * np.abs(sums) / taps * ratio) * 2.0**-24
    return error
