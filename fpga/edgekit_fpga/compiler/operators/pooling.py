"""Pooling: the largest value, averages."""

from dataclasses import replace

import numpy as np

from edgekit_fpga.arithmetic import float_requantize
from edgekit_fpga.compiler import ir
from edgekit_fpga.compiler.builder import Builder, Node, Unsupported
from edgekit_fpga.compiler.operators.linear import conv_layer, spatial


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
    rank = len(b.shapes[source])
    weights = np.ones((channels, 1, height, width), np.int8)
    conv_layer(
        b, name, held, made, (channels, *([1] * (rank - 1))), weights,
        np.zeros(channels), np.full(channels, multiplier), outgoing,
        ir.Window((height, width)), channels, (-128, 127), counted=False,
    )  # fmt: skip


def qlinear_average_pool(b: Builder, node: Node) -> None:
    """QLinearAveragePool; equal to ONNX Runtime where no average is a tie."""
    x, xs, xz, ys, yz = node.inputs
    if node.attributes.get("channels_last", 0):
        raise Unsupported("channels come last")
    held = b.entry(x, b.quantization(xs, xz))
    average(b, node, held, node.outputs[0], b.quantization(ys, yz))


def average(b: Builder, node: Node, held: str, made: str, outgoing: ir.Quantization) -> None:
    """AveragePool as a depthwise convolution with weights of one."""
    tensor = b.tensors[held]
    kernel = tuple(int(size) for size in node.attributes["kernel_shape"])
    rank = len(kernel)
    window, out = spatial(node, list(tensor.shape[1 : 1 + rank]), kernel)
    if not node.attributes.get("count_include_pad", 0) and _touches_padding(tensor, window, out):
        raise Unsupported("windows at the border average fewer elements")
    multiplier, zero_point, bias = _average_constants(tensor.quantization, outgoing, window.taps)
    channels = tensor.shape[0]
    weights = np.ones((channels, 1, *window.kernel), np.int8)
    conv_layer(
        b,
        node.name,
        held,
        made,
        (channels, *out[:rank]),
        weights,
        np.full(channels, bias),
        np.full(channels, multiplier),
        replace(outgoing, zero_point=zero_point),
        window,
        channels,
        (-128, 127),
        counted=False,
    )
    b.tensors[made] = replace(b.tensors[made], quantization=outgoing)


def _touches_padding(tensor: ir.Tensor, window: ir.Window, out: tuple[int, int]) -> bool:
    ends = [
        (size - 1) * stride - pad + (kernel - 1) * dilation + 1
        for size, stride, pad, kernel, dilation in zip(
            out, window.stride, window.pad, window.kernel, window.dilation, strict=True
        )
    ]
    return max(window.pad) > 0 or ends[0] > tensor.shape[1] or ends[1] > tensor.shape[2]


def _average_constants(
    incoming: ir.Quantization, outgoing: ir.Quantization, taps: int
) -> tuple[np.float32, int, int]:
    """Multiplier, zero point behind the rounding, bias in front of it.

    ONNX Runtime adds float32 values one by one, divides by their number and the scale, adds the
    zero point and rounds. What it makes of a tie depends on the order of the sum, unless the scale
    is a power of two; so every reachable sum must be clear of ties by that sum's largest error.

    Raises:
        Unsupported: a sum that is not.
    """
    multiplier = np.float32(incoming.scale / np.float32(outgoing.scale * np.float32(taps)))
    sums = np.arange(taps * (-128 - incoming.zero_point), taps * (127 - incoming.zero_point) + 1)
    exact = np.frexp(incoming.scale)[0] == 0.5
    zero = np.float32(outgoing.graph_zero_point)
    offset = 128 if outgoing.unsigned else 0
    mean = (sums * incoming.scale).astype(np.float32) / np.float32(taps)
    value = (mean / outgoing.scale).astype(np.float64) + float(zero)
    spread = 0.0 if exact else taps * 256 * float(incoming.scale / outgoing.scale) * 2.0**-24
    slack = spread + (0.0 if exact else 2.0**-14)
    ends = [np.clip(np.rint(value + way) - offset, -128, 127) for way in (-slack, slack)]
    choices = [(outgoing.zero_point, 0)]
    inside = round(outgoing.zero_point / float(multiplier))
    if inside * float(multiplier) == outgoing.zero_point:
        choices.insert(0, (0, inside))
    for behind, bias in choices:
        made = float_requantize(sums + bias, multiplier, behind, -128, 127)
        if np.array_equal(made, ends[0]) and np.array_equal(made, ends[1]):
            return multiplier, behind, bias
    raise Unsupported(
        f"averages of {taps} elements fall on ties, which ONNX Runtime decides by the order of a "
        "float sum; power-of-two scales decide them"
    )
