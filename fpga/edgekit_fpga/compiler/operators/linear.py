"""Convolutions and dense layers."""

import math

import numpy as np

from edgekit_fpga.arithmetic import Float32
from edgekit_fpga.compiler import ir
from edgekit_fpga.compiler.builder import MOST_ELEMENTS, Array, Builder, Node, Unsupported


def qlinear_conv(b: Builder, node: Node) -> None:
    """QLinearConv: m = f32(f32(xs * ws) / ys), one multiplier a channel."""
    x, xs, xz, w, ws, wz, ys, yz = node.inputs[:8]
    incoming, outgoing = b.quantization(xs, xz), b.quantization(ys, yz)
    weights = centred_weights(b.constant(w, "weight"), b.constant(wz, "weight zero point"), 0)
    bias = b.constant(node.inputs[8], "bias") if len(node.inputs) > 8 else np.zeros(len(weights))
    multiplier = multipliers(incoming, b.constant(ws, "weight scale"), outgoing, len(weights))
    held = b.entry(x, incoming)
    convolution(b, node, held, node.outputs[0], weights, bias, multiplier, outgoing)


def qgemm(b: Builder, node: Node) -> None:
    """QGemm of com.microsoft: a dense layer with an int32 bias."""
    x, xs, xz, w, ws, wz, c, ys, yz = (*node.inputs, "", "")[:9]
    if node.attributes.get("transA", 0) or node.attributes.get("alpha", 1.0) != 1.0:
        raise Unsupported("transA or alpha is set")
    if not ys:
        raise Unsupported("its result is not quantized")
    incoming, outgoing = b.quantization(xs, xz), b.quantization(ys, yz)
    weights = b.constant(w, "weight")
    transposed = bool(node.attributes.get("transB", 0))
    centred = centred_weights(weights, b.constant(wz, "weight zero point"), 0 if transposed else 1)
    matrix = centred if transposed else centred.T
    bias = b.constant(c, "bias") if c else np.zeros(len(matrix))
    multiplier = multipliers(incoming, b.constant(ws, "weight scale"), outgoing, len(matrix))
    dense(b, node, b.entry(x, incoming), node.outputs[0], matrix, bias, multiplier, outgoing)


def qlinear_matmul(b: Builder, node: Node) -> None:
    """QLinearMatMul with constant weights on the right."""
    x, xs, xz, w, ws, wz, ys, yz = node.inputs
    incoming, outgoing = b.quantization(xs, xz), b.quantization(ys, yz)
    weights = b.constant(w, "weight")
    matrix = centred_weights(weights, b.constant(wz, "weight zero point"), 1).T
    multiplier = multipliers(incoming, b.constant(ws, "weight scale"), outgoing, len(matrix))
    bias = np.zeros(len(matrix))
    dense(b, node, b.entry(x, incoming), node.outputs[0], matrix, bias, multiplier, outgoing)


def centred_weights(weights: Array, zero_point: Array, axis: int) -> ir.Weights:
    """Weights minus their zero point: int8 where that fits, else int16."""
    zero = zero_point.astype(np.int16).reshape(-1)
    if weights.dtype not in (np.int8, np.uint8):
        raise Unsupported(f"its weights are {weights.dtype}, not int8 or uint8")
    spread = [1] * weights.ndim
    if zero.size > 1:
        spread[axis] = zero.size
    centred = weights.astype(np.int16) - zero.reshape(spread)
    if centred.size and (centred.min() < -128 or centred.max() > 127):
        return centred
    return centred.astype(np.int8)


def multipliers(
    incoming: ir.Quantization, scale: Array, outgoing: ir.Quantization, channels: int
) -> Float32:
    """ONNX Runtime's multiplier of each channel: f32(f32(xs * ws) / ys)."""
    scale = scale.astype(np.float32).reshape(-1)
    if not np.isfinite(scale).all() or (scale < 0).any():
        raise Unsupported("a weight scale is not a positive number")
    product = (incoming.scale * scale).astype(np.float32)
    multiplier = (product / outgoing.scale).astype(np.float32)
    if not np.isfinite(multiplier).all():
        raise Unsupported("its scales differ by more than float32 holds")
    return np.broadcast_to(multiplier, (channels,)).astype(np.float32)


def dense(
    b: Builder,
    node: Node,
    source: str,
    made: str,
    matrix: ir.Weights,
    bias: Array,
    multiplier: Float32,
    outgoing: ir.Quantization,
    clamp: tuple[int, int] = (-128, 127),
) -> None:
    """A dense layer, `matrix` (outputs, inputs), as a 1x1 convolution."""
    shape = b.tensors[source].shape
    if matrix.ndim != 2 or shape != (matrix.shape[1], 1, 1):
        raise Unsupported(f"a matrix of {matrix.shape[::-1]} on a tensor of {shape}")
    weights = matrix.reshape(*matrix.shape, 1, 1)
    conv_layer(
        b, node.name, source, made, (len(matrix),), weights, bias, multiplier, outgoing,
        ir.Window(), 1, clamp,
    )  # fmt: skip


def convolution(
    b: Builder,
    node: Node,
    source: str,
    made: str,
    weights: ir.Weights,
    bias: Array,
    multiplier: Float32,
    outgoing: ir.Quantization,
    clamp: tuple[int, int] = (-128, 127),
) -> None:
    """A convolution layer from the node's attributes; 1-D ones run along the height."""
    rank = weights.ndim - 2
    if rank not in (1, 2):
        raise Unsupported(f"a {rank}-dimensional convolution")
    channels, *size = b.tensors[source].shape
    groups = int(node.attributes.get("group", 1))
    if channels != weights.shape[1] * groups or len(weights) % groups:
        raise Unsupported(f"weights {weights.shape} in {groups} groups on {channels} channels")
    window, out = spatial(node, size[:rank], weights.shape[2:])
    weights = weights.reshape(*weights.shape, *([1] * (2 - rank)))
    shape = (len(weights), *out[:rank])
    conv_layer(
        b, node.name, source, made, shape, weights, bias, multiplier, outgoing,
        window, groups, clamp,
    )  # fmt: skip


def conv_layer(
    b: Builder,
    name: str,
    source: str,
    made: str,
    shape: tuple[int, ...],
    weights: ir.Weights,
    bias: Array,
    multiplier: Float32,
    outgoing: ir.Quantization,
    window: ir.Window,
    groups: int,
    clamp: tuple[int, int],
    *,
    products: int | None = None,
) -> None:
    """Enter a convolution and the tensor it makes."""
    b.add_tensor(made, shape, outgoing)
    requant = ir.Requant(multiplier, outgoing.zero_point, *clamp)
    b.layers.append(
        ir.Conv(
            name,
            source,
            made,
            weights=weights,
            bias=bias.astype(np.int64),
            requant=requant,
            window=window,
            groups=groups,
            products=weights.size if products is None else products,
        )
    )


def spatial(
    node: Node, size: list[int], kernel: tuple[int, ...]
) -> tuple[ir.Window, tuple[int, int]]:
    """The window and the output size of a convolution or pool with ONNX's attributes."""
    rank = len(kernel)
    a = node.attributes
    strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    pads = list(a.get("pads", [0] * 2 * rank))
    begin, end = pads[:rank], pads[rank:]
    if not all(len(each) == rank for each in (size, strides, dilations, begin, end)):
        raise Unsupported(f"attributes for another number of dimensions than {rank}")
    if min((*kernel, *strides, *dilations)) < 1 or min(pads) < 0:
        raise Unsupported(f"a window of {list(kernel)}, strides {strides}, pads {pads}")
    if math.prod(kernel) > MOST_ELEMENTS:
        raise Unsupported(f"a window of {list(kernel)}")
    auto = a.get("auto_pad", b"NOTSET").decode()
    out = []
    for axis in range(rank):
        span = (kernel[axis] - 1) * dilations[axis] + 1
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            wanted = -(-size[axis] // strides[axis])
            total = max((wanted - 1) * strides[axis] + span - size[axis], 0)
            begin[axis] = total // 2 if auto == "SAME_UPPER" else total - total // 2
            end[axis] = total - begin[axis]
        room = size[axis] + begin[axis] + end[axis] - span
        if room < 0:
            raise Unsupported(f"a window of {span} on {size[axis]} elements")
        steps = room // strides[axis] + 1
        if a.get("ceil_mode", 0):
            steps = -(-room // strides[axis]) + 1
            if (steps - 1) * strides[axis] >= size[axis] + begin[axis]:
                steps -= 1
        out.append(steps)
    pair = [
        (int(k), int(s), int(d), int(p))
        for k, s, d, p in zip(kernel, strides, dilations, begin, strict=True)
    ]
    pair += [(1, 1, 1, 0)] * (2 - rank)
    kernel_2, stride, dilation, pad = zip(*pair, strict=True)
    window = ir.Window(kernel_2, stride, dilation, pad)
    return window, ((*out, 1, 1)[0], (*out, 1, 1)[1])
