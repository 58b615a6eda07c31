"""What each ONNX operator becomes; one function an operator or a family of them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit_fpga.arithmetic import Float32, Int8, Int64
from edgekit_fpga.compiler import adds, ir
from edgekit_fpga.compiler.importer import (
    Array,
    Builder,
    Node,
    Unsupported,
    quantization_json,
    stage_attributes,
)
from edgekit_fpga.compiler.tables import ELEMENTWISE, evaluate, requantize_table
from edgekit_fpga.cpu import STAGE_OPERATORS, CpuOp

Handler = Callable[[Builder, Node], None]


# --- quantization at the borders ------------------------------------------------------------


def quantize_linear(b: Builder, node: Node) -> None:
    """A float tensor becomes quantized: at the pipeline's start, or after a float island."""
    source, made = node.inputs[0], node.outputs[0]
    quantization = b.quantization(node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else "")
    if source in b.types:
        b.before.append(CpuOp("QuantizeLinear", (source,), made, quantization_json(quantization)))
        b.add_tensor(made, b.shapes[source], quantization)
        b.entries.append(made)
    elif source in b.real:
        held = b.source(source)
        if b.tensors[held].quantization == quantization:
            _alias(b, made, b.real[source], b.shapes[source])
        else:
            table = requantize_table(b.tensors[held].quantization, quantization)
            _table(b, node.name, held, made, b.shapes[source], quantization, table)
    elif source in b.pending:
        lower(b, b.pending[source], made, quantization)
    else:
        raise Unsupported(f"its input {source} comes from nowhere")


def dequantize_linear(b: Builder, node: Node) -> None:
    """A quantized tensor seen as real numbers, or quantized weights."""
    source, made = node.inputs[0], node.outputs[0]
    if source in b.constants:
        stored = b.constants[source]
        zero = b.constants[node.inputs[2]] if len(node.inputs) > 2 else np.zeros(1, stored.dtype)
        scale = b.constant(node.inputs[1], "scale")
        b.weights[made] = (stored, scale, zero, int(node.attributes.get("axis", 1)))
        axis = int(node.attributes.get("axis", 1))
        spread = [1] * stored.ndim
        if scale.size > 1:
            spread[axis] = scale.size
        shifted = stored.astype(np.int32) - zero.astype(np.int32).reshape(
            spread if zero.size > 1 else [1] * stored.ndim
        )
        b.constants[made] = shifted.astype(np.float32) * scale.reshape(spread)
        return
    quantization = b.quantization(node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else "")
    _entry(b, source, quantization)
    b.real[made] = source
    b.shapes[made] = b.shapes[source]


def _entry(b: Builder, name: str, quantization: ir.Quantization) -> str:
    """A quantized input, entering the graph's own int8 inputs when they are first used."""
    if name in b.types and name not in b.tensors:
        wanted = np.uint8 if quantization.unsigned else np.int8
        if b.types[name] != wanted:
            raise Unsupported(f"its input {name} is {b.types[name]}, its zero point is not")
        b.add_tensor(name, b.shapes[name], quantization)
        b.entries.append(name)
    held = b.source(name)
    if b.tensors[held].quantization != quantization:
        raise Unsupported(f"it reads {name} with another quantization than it was made with")
    return held


# --- convolution and dense layers -----------------------------------------------------------


def qlinear_conv(b: Builder, node: Node) -> None:
    """QLinearConv: m = f32(f32(xs * ws) / ys), one multiplier a channel."""
    x, xs, xz, w, ws, wz, ys, yz = node.inputs[:8]
    incoming, outgoing = b.quantization(xs, xz), b.quantization(ys, yz)
    weights = _centred(b.constant(w, "weight"), b.constant(wz, "weight zero point"), 0)
    bias = b.constant(node.inputs[8], "bias") if len(node.inputs) > 8 else np.zeros(len(weights))
    multiplier = _multiplier(incoming, b.constant(ws, "weight scale"), outgoing, len(weights))
    held = _entry(b, x, incoming)
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
    centred = _centred(weights, b.constant(wz, "weight zero point"), 0 if transposed else 1)
    matrix = centred if transposed else centred.T
    bias = b.constant(c, "bias") if c else np.zeros(len(matrix))
    multiplier = _multiplier(incoming, b.constant(ws, "weight scale"), outgoing, len(matrix))
    dense(b, node, _entry(b, x, incoming), node.outputs[0], matrix, bias, multiplier, outgoing)


def qlinear_matmul(b: Builder, node: Node) -> None:
    """QLinearMatMul with constant weights on the right."""
    x, xs, xz, w, ws, wz, ys, yz = node.inputs
    incoming, outgoing = b.quantization(xs, xz), b.quantization(ys, yz)
    weights = b.constant(w, "weight")
    matrix = _centred(weights, b.constant(wz, "weight zero point"), 1).T
    multiplier = _multiplier(incoming, b.constant(ws, "weight scale"), outgoing, len(matrix))
    bias = np.zeros(len(matrix))
    dense(b, node, _entry(b, x, incoming), node.outputs[0], matrix, bias, multiplier, outgoing)


def _centred(weights: Array, zero_point: Array, axis: int) -> Int8:
    """Weights minus their zero point, which must fit int8."""
    zero = zero_point.astype(np.int16).reshape(-1)
    spread = [1] * weights.ndim
    if zero.size > 1:
        spread[axis] = zero.size
    centred = weights.astype(np.int16) - zero.reshape(spread)
    if centred.size and (centred.min() < -128 or centred.max() > 127):
        raise Unsupported("weights minus their zero point do not fit int8")
    return centred.astype(np.int8)


def _multiplier(
    incoming: ir.Quantization, scale: Array, outgoing: ir.Quantization, channels: int
) -> Float32:
    scale = scale.astype(np.float32).reshape(-1)
    if not np.isfinite(scale).all() or (scale < 0).any():
        raise Unsupported("a weight scale is not a positive number")
    product = (incoming.scale * scale).astype(np.float32)
    multiplier = (product / outgoing.scale).astype(np.float32)
    return np.broadcast_to(multiplier, (channels,)).astype(np.float32)


def dense(
    b: Builder,
    node: Node,
    source: str,
    made: str,
    matrix: Int8,
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
    _conv_layer(
        b, node.name, source, made, (len(matrix),), weights, bias, multiplier, outgoing,
        ir.Window(), 1, clamp,
    )  # fmt: skip


def convolution(
    b: Builder,
    node: Node,
    source: str,
    made: str,
    weights: Int8,
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
    _conv_layer(
        b, node.name, source, made, shape, weights, bias, multiplier, outgoing,
        window, groups, clamp,
    )  # fmt: skip


def _conv_layer(
    b: Builder,
    name: str,
    source: str,
    made: str,
    shape: tuple[int, ...],
    weights: Int8,
    bias: Array,
    multiplier: Float32,
    outgoing: ir.Quantization,
    window: ir.Window,
    groups: int,
    clamp: tuple[int, int],
) -> None:
    tensor = b.add_tensor(made, shape, outgoing)
    requant = ir.Requant(multiplier, outgoing.zero_point, *clamp)
    b.macs += int(np.prod(weights.shape)) * tensor.shape[1] * tensor.shape[2]
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
        )
    )


def spatial(
    node: Node, size: list[int], kernel: tuple[int, ...]
) -> tuple[ir.Window, tuple[int, int]]:
    """The window and the output size of a convolution or pool with ONNX's attributes."""
    rank = len(kernel)
    a = node.attributes
    strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    begin, end = (
        list(a.get("pads", [0] * 2 * rank))[:rank],
        list(a.get("pads", [0] * 2 * rank))[rank:],
    )
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


# --- pooling --------------------------------------------------------------------------------


def max_pool(b: Builder, node: Node) -> None:
    """MaxPool on quantized values; order is kept by quantization, so real views work too."""
    if len([name for name in node.outputs if name]) > 1:
        raise Unsupported("it also gives indices")
    held = b.source(node.inputs[0])
    tensor = b.tensors[held]
    kernel = tuple(node.attributes["kernel_shape"])
    window, out = spatial(node, list(tensor.shape[1 : 1 + len(kernel)]), kernel)
    made = _quantized_name(b, node)
    b.add_tensor(made, (tensor.shape[0], *out[: len(kernel)]), tensor.quantization)
    b.layers.append(ir.MaxPool(node.name, held, made, window=window))


def global_average_pool(b: Builder, node: Node) -> None:
    """QLinearGlobalAveragePool: an average over all pixels, m = f32(xs / f32(ys * pixels))."""
    x, xs, xz, ys, yz = node.inputs
    if node.attributes.get("channels_last", 0):
        raise Unsupported("channels come last")
    held = _entry(b, x, b.quantization(xs, xz))
    _global_average(b, node.name, held, node.outputs[0], b.quantization(ys, yz))


def _global_average(b: Builder, name: str, held: str, made: str, outgoing: ir.Quantization) -> None:
    tensor = b.tensors[held]
    channels, height, width = tensor.shape
    pixels = np.float32(height * width)
    multiplier = np.float32(tensor.quantization.scale / np.float32(outgoing.scale * pixels))
    rank = len(b.shapes[held])
    weights = np.ones((channels, 1, height, width), np.int8)
    macs = b.macs
    _conv_layer(
        b, name, held, made, (channels, *([1] * (rank - 1))), weights,
        np.zeros(channels), np.full(channels, multiplier), outgoing,
        ir.Window((height, width)), channels, (-128, 127),
    )  # fmt: skip
    b.macs = macs


# --- element by element ---------------------------------------------------------------------


def qlinear_add(b: Builder, node: Node) -> None:
    """QLinearAdd of two activations of one shape."""
    x, xs, xz, y, ys, yz, zs, zz = node.inputs
    first, second = b.quantization(xs, xz), b.quantization(ys, yz)
    _add(
        b, node, _entry(b, x, first), _entry(b, y, second), node.outputs[0], b.quantization(zs, zz)
    )


def _add(
    b: Builder,
    node: Node,
    first: str,
    second: str,
    made: str,
    outgoing: ir.Quantization,
    clamp: tuple[int, int] = (-128, 127),
) -> None:
    one, two = b.tensors[first], b.tensors[second]
    if one.shape != two.shape:
        raise Unsupported(f"shapes {one.shape} and {two.shape} differ")
    residual = adds.residual(second, made, one.quantization, two.quantization, outgoing)
    if residual is None:
        raise Unsupported("no fixed-point constants reproduce its float arithmetic")
    residual = replace(residual, low=clamp[0], high=clamp[1])
    b.add_tensor(made, b.shapes[first], outgoing)
    copied = f"{made}/first"
    b.tensors[copied] = replace(one, name=copied)
    b.layers.append(ir.Copy(node.name, first, copied, post=ir.Post(residual=residual)))


def qlinear_table(b: Builder, node: Node) -> None:
    """QLinearSigmoid and QLinearLeakyRelu: a table of 256 entries."""
    x, xs, xz, ys, yz = (*node.inputs, "")[:5]
    held = _entry(b, x, b.quantization(xs, xz))
    outgoing = b.quantization(ys, yz)
    operator = node.operator.removeprefix("QLinear")
    plain = replace(node, operator=operator, inputs=("x",), outputs=("y",))
    table = evaluate([plain], {}, "x", "y", b.tensors[held].quantization, outgoing)
    _table(b, node.name, held, node.outputs[0], b.shapes[held], outgoing, table)


def _table(
    b: Builder,
    name: str,
    held: str,
    made: str,
    shape: tuple[int, ...],
    outgoing: ir.Quantization,
    table: Int8,
) -> None:
    b.add_tensor(made, shape, outgoing)
    copied = f"{made}/in"
    b.tensors[copied] = replace(b.tensors[held], name=copied)
    b.layers.append(ir.Copy(name, held, copied, post=ir.Post(lookup=ir.Lookup(made, table))))


# --- shapes ---------------------------------------------------------------------------------


def reshape(b: Builder, node: Node) -> None:
    """Flatten, Reshape, Squeeze, Unsqueeze, Identity: no work, or a Flatten before dense layers."""
    name = node.inputs[0]
    if name not in b.shapes:
        raise Unsupported(f"its input {name} comes from nowhere")
    shape = _new_shape(b, node, b.shapes[name])
    made = node.outputs[0]
    if name in b.types:
        b.types[made], b.shapes[made] = b.types[name], shape
        attributes = {"shape": list(shape)}
        b.before.append(CpuOp("Reshape", (name,), made, attributes))
        return
    if name in b.pending:
        _postpone(b, node)
        b.shapes[made] = shape
        return
    held = b.source(name)
    tensor = b.tensors[held]
    view = _quantized_name(b, node)
    flat = (int(np.prod(shape)), 1, 1)
    target = (*shape, 1, 1, 1)[:3] if len(shape) <= 3 else None
    if target == tensor.shape:
        _alias(b, view, held, shape)
    elif target == flat:
        b.add_tensor(view, shape, tensor.quantization)
        b.layers.append(ir.Flatten(node.name, held, view))
    else:
        raise Unsupported(f"it reorders {tensor.shape} into {shape}")
    b.shapes[made] = shape


def _new_shape(b: Builder, node: Node, shape: tuple[int, ...]) -> tuple[int, ...]:
    if node.operator == "Identity":
        return shape
    if node.operator == "Flatten":
        if node.attributes.get("axis", 1) != 1:
            raise Unsupported("it flattens the batch")
        return (int(np.prod(shape)),)
    if node.operator == "Reshape":
        wanted = [int(size) for size in b.constant(node.inputs[1], "shape")]
        full = [1, *shape]
        sizes = [full[i] if size == 0 else size for i, size in enumerate(wanted)]
        if sizes[0] not in (1, -1) or sizes.count(-1) > 1 or len(sizes) < 2:
            raise Unsupported(f"it reshapes the batch: {wanted}")
        rest = sizes[1:]
        if -1 in rest:
            known = -int(np.prod(rest))
            rest[rest.index(-1)] = int(np.prod(shape)) // max(known, 1)
        if np.prod(rest) != np.prod(shape):
            raise Unsupported(f"it reshapes the batch: {wanted}")
        return tuple(rest)
    axes: Any = node.attributes.get("axes")
    if len(node.inputs) > 1:
        axes = b.constant(node.inputs[1], "axes")
    if node.operator == "Squeeze":
        rank = len(shape) + 1
        gone = (
            {i for i, size in enumerate(shape, 1) if size == 1}
            if axes is None
            else {int(axis) % rank for axis in axes}
        )
        if 0 in gone or any(shape[axis - 1] != 1 for axis in gone):
            raise Unsupported("it squeezes the batch")
        return tuple(size for i, size in enumerate(shape, 1) if i not in gone)
    full = [1, *shape]
    rank = len(full) + len(axes)
    places = sorted(int(axis) % rank for axis in axes)
    if 0 in places:
        raise Unsupported("it adds a dimension before the batch")
    for place in places:
        full.insert(place, 1)
    return tuple(full[1:])


def _alias(b: Builder, made: str, held: str, shape: tuple[int, ...]) -> None:
    b.alias[made] = b.alias.get(held, held)
    b.shapes[made] = shape


def _quantized_name(b: Builder, node: Node) -> str:
    """The quantized tensor a node makes: its output, or what its real output is a view of."""
    made = node.outputs[0]
    if node.inputs[0] not in b.real:
        return made
    held = f"{made}/quantized"
    b.real[made] = held
    b.shapes[made] = ()
    return held


# --- float islands and what follows the NPU -------------------------------------------------


def _postpone(b: Builder, node: Node) -> None:
    """Keep a float node until a QuantizeLinear, or the end, says what becomes of it."""
    source = node.inputs[0]
    if source in b.types and node.operator in STAGE_OPERATORS:
        made = node.outputs[0]
        b.types[made] = b.types[source]
        b.shapes[made] = b.shapes[source]
        b.before.append(CpuOp(node.operator, (source,), made, stage_attributes(b, node)))
        return
    if not any(name in b.real or name in b.pending for name in node.inputs):
        raise Unsupported(f"its input {source} is not quantized")
    b.pending[node.outputs[0]] = node
    b.shapes[node.outputs[0]] = b.shapes[source]


def lower(b: Builder, node: Node, made: str, outgoing: ir.Quantization) -> None:
    """Lower a pending float node now that its result is quantized as `made`."""
    clamp = (-128, 127)
    tail = node
    while tail.operator in ("Relu", "Clip") and tail.inputs[0] in b.pending:
        clamp = _tighten(clamp, _clamp(b, tail, outgoing))
        tail = b.pending[tail.inputs[0]]
    floats = FLOAT_OPERATORS.get(tail.operator)
    if floats is not None and not _is_table(b, tail):
        floats(b, tail, made, outgoing, clamp)
        return
    nodes, leaf = _island(b, node)
    held = b.source(leaf)
    table = evaluate(
        nodes, b.constants, leaf, node.outputs[0], b.tensors[held].quantization, outgoing
    )
    _table(b, node.name, held, made, b.shapes[leaf], outgoing, table)


def _is_table(b: Builder, node: Node) -> bool:
    """Whether an Add or Mul has one activation only, so that it belongs into a table."""
    if node.operator not in ELEMENTWISE:
        return False
    return len({name for name in node.inputs if name and name not in b.constants}) < 2


def _island(b: Builder, node: Node) -> tuple[list[Node], str]:
    """The elementwise float nodes behind `node`, in order, and the one real view they start at."""
    nodes: list[Node] = []
    leaves: set[str] = set()

    def visit(current: Node) -> None:
        if current in nodes:
            return
        if current.operator not in ELEMENTWISE:
            raise Unsupported(f"{current.operator} between DequantizeLinear and QuantizeLinear")
        for name in current.inputs:
            if name in b.pending:
                visit(b.pending[name])
            elif name in b.real:
                leaves.add(name)
            elif name and b.constant(name, "operand").size != 1:
                raise Unsupported("its constant operand is not a single number")
        nodes.append(current)

    visit(node)
    if len(leaves) != 1:
        raise Unsupported("it joins more than one quantized tensor")
    return nodes, leaves.pop()


def _clamp(b: Builder, node: Node, outgoing: ir.Quantization) -> tuple[int, int]:
    """Relu or Clip on real numbers as bounds on the stored result."""
    low, high = -np.inf, np.inf
    if node.operator == "Relu":
        low = 0.0
    else:
        bounds = [b.constants[name] if name else None for name in node.inputs[1:3]]
        bounds += [None] * (2 - len(bounds))
        low = float(bounds[0]) if bounds[0] is not None else node.attributes.get("min", low)
        high = float(bounds[1]) if bounds[1] is not None else node.attributes.get("max", high)

    def stored(real: float) -> int:
        if np.isinf(real):
            return -128 if real < 0 else 127
        scaled = np.rint(np.float32(real) / outgoing.scale) + outgoing.zero_point
        return int(np.clip(scaled, -128, 127))

    return stored(low), stored(high)


def _tighten(one: tuple[int, int], two: tuple[int, int]) -> tuple[int, int]:
    low = max(one[0], two[0])
    return low, max(low, min(one[1], two[1]))


def _float_conv(
    b: Builder, node: Node, made: str, outgoing: ir.Quantization, clamp: tuple[int, int]
) -> None:
    held, centred, bias, multiplier = _float_weights(b, node, outgoing, 0)
    convolution(b, node, held, made, centred, bias, multiplier, outgoing, clamp)


def _float_gemm(
    b: Builder, node: Node, made: str, outgoing: ir.Quantization, clamp: tuple[int, int]
) -> None:
    a = node.attributes
    if a.get("transA", 0) or a.get("alpha", 1.0) != 1.0 or a.get("beta", 1.0) != 1.0:
        raise Unsupported("transA, alpha or beta is set")
    axis = 0 if a.get("transB", 0) else 1
    held, centred, bias, multiplier = _float_weights(b, node, outgoing, axis)
    matrix = centred if axis == 0 else centred.T
    dense(b, node, held, made, matrix, bias, multiplier, outgoing, clamp)


def _float_weights(
    b: Builder, node: Node, outgoing: ir.Quantization, axis: int
) -> tuple[str, Int8, Int64, Float32]:
    """Source, weights, bias in accumulator units, and multipliers of a QDQ Conv or Gemm."""
    held = b.source(node.inputs[0])
    if node.inputs[1] not in b.weights:
        raise Unsupported("its weights are not quantized constants")
    stored, scale, zero, _ = b.weights[node.inputs[1]]
    centred = _centred(stored, zero, axis)
    channels = centred.shape[axis]
    incoming = b.tensors[held].quantization
    bias: Int64 = np.zeros(channels, np.int64)
    if len(node.inputs) > 2 and node.inputs[2]:
        name = node.inputs[2]
        if name in b.weights:
            bias = b.weights[name][0].astype(np.int64)
        else:
            unit = np.float32(incoming.scale) * scale.astype(np.float32)
            bias = np.rint(b.constant(name, "bias") / unit).astype(np.int64)
    return held, centred, bias, _multiplier(incoming, scale, outgoing, channels)


def _float_add(
    b: Builder, node: Node, made: str, outgoing: ir.Quantization, clamp: tuple[int, int]
) -> None:
    first, second = (b.source(name) for name in node.inputs)
    _add(b, node, first, second, made, outgoing, clamp)


def _float_global_average(
    b: Builder, node: Node, made: str, outgoing: ir.Quantization, clamp: tuple[int, int]
) -> None:
    if clamp != (-128, 127):
        raise Unsupported("an activation follows it")
    _global_average(b, node.name, b.source(node.inputs[0]), made, outgoing)


Lowering = Callable[[Builder, Node, str, ir.Quantization, tuple[int, int]], None]

FLOAT_OPERATORS: dict[str, Lowering] = {
    "Conv": _float_conv,
    "Gemm": _float_gemm,
    "MatMul": _float_gemm,
    "Add": _float_add,
    "GlobalAveragePool": _float_global_average,
}


def constant(b: Builder, node: Node) -> None:
    """A Constant node."""
    value: Any = node.attributes.get("value")
    if value is None:
        raise Unsupported("a constant that is no tensor")
    from onnx import numpy_helper

    b.constants[node.outputs[0]] = numpy_helper.to_array(value)


OPERATORS: dict[str, Handler] = {
    "Constant": constant,
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
    "QLinearConv": qlinear_conv,
    "QGemm": qgemm,
    "QLinearMatMul": qlinear_matmul,
    "QLinearAdd": qlinear_add,
    "QLinearSigmoid": qlinear_table,
    "QLinearLeakyRelu": qlinear_table,
    "QLinearGlobalAveragePool": global_average_pool,
    "MaxPool": max_pool,
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity"), reshape),
    **dict.fromkeys(FLOAT_OPERATORS, _postpone),
    **dict.fromkeys(ELEMENTWISE, _postpone),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Transpose"), _postpone),
}
