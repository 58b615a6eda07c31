"""Passes over the intermediate form that leave every remaining tensor's values unchanged."""

from dataclasses import replace

import numpy as np

from edgekit_fpga.arithmetic import Int8
from edgekit_fpga.compiler import adds, ir
from edgekit_fpga.errors import Problem, Refused

POOL_LIMIT = 1 << 24
MOST_DENSE_WEIGHTS = 1 << 26


def fold(graph: ir.Graph) -> ir.Graph:
    """Flatten vanishes into the dense layers behind it, whose kernel becomes the whole input."""
    flattens = {made.result: made for made in graph.layers if isinstance(made, ir.Flatten)}
    problems = []
    layers: list[ir.Layer] = []
    for layer in graph.layers:
        if isinstance(layer, ir.Flatten):
            continue
        behind = flattens.get(layer.input)
        if behind is None:
            layers.append(layer)
        elif isinstance(layer, ir.Conv) and layer.groups == 1 and layer.window == ir.Window():
            shape = graph.tensors[behind.input].shape
            ordered = [shape[axis] for axis in behind.order]
            weights = layer.weights.reshape(len(layer.weights), *ordered)
            back = [behind.order.index(axis) + 1 for axis in range(3)]
            weights = np.ascontiguousarray(weights.transpose(0, *back))
            window = ir.Window(kernel=shape[1:])
            layers.append(replace(layer, input=behind.input, weights=weights, window=window))
        else:
            problems.append(
                Problem(behind.node, "Flatten", f"{layer.node} follows, no dense layer")
            )
    problems += [
        Problem(flattens[name].node, "Flatten", "its result is an output of the NPU")
        for name in graph.outputs
        if name in flattens
    ]
    if problems:
        raise Refused(problems)
    return graph.with_layers(tuple(layers))


def order(graph: ir.Graph) -> ir.Graph:
    """Of the two layers an add joins, the one with more products a result comes last.

    The add is fused into the later one, and its table look-ups hide behind those products: a
    residual block's 1x1 shortcut comes before its last 3x3 convolution.
    """
    layers = list(graph.layers)
    for add in graph.layers:
        if not add.post.residual:
            continue
        made = [_host(graph, name) for name in (add.input, add.post.residual.operand)]
        if not all(isinstance(layer, ir.Conv) for layer in made):
            continue
        first, last = sorted((layer for layer in made if layer), key=layers.index)
        assert isinstance(first, ir.Conv)
        assert isinstance(last, ir.Conv)
        known = {*graph.inputs, *(layer.output for layer in layers[: layers.index(first)])}
        if first.weights[0].size > last.weights[0].size and known.issuperset(last.inputs):
            layers.remove(last)
            layers.insert(layers.index(first), last)
    return graph.with_layers(tuple(layers))


def fuse(graph: ir.Graph, *, pools: bool = True) -> ir.Graph:
    """Tables, adds and, with `pools`, global averages join the layer that makes their operand."""
    layers = list(graph.layers)
    position = 0
    while position < len(layers):
        layer = layers[position]
        joined = _joined(graph.with_layers(tuple(layers)), layer, pools=pools)
        if joined is None:
            position += 1
        else:
            host, together = joined
            layers[layers.index(host)] = together
            del layers[position]
    return graph.with_layers(tuple(layers))


def _joined(graph: ir.Graph, layer: ir.Layer, *, pools: bool) -> tuple[ir.Layer, ir.Layer] | None:
    if isinstance(layer, ir.Copy) and layer.plain:
        if layer.post.lookup:
            return _join_lookup(graph, layer, layer.post.lookup)
        if layer.post.residual:
            return _join_add(graph, layer, layer.post.residual)
    if pools and isinstance(layer, ir.Conv) and is_global_average(graph, layer):
        host = _host(graph, layer.input)
        if isinstance(host, ir.Conv) and host.post.pool is None:
            pixels = layer.window.taps
            requant = replace(layer.requant, multiplier=layer.requant.multiplier[:1])
            pool = ir.GlobalPool(
                layer.result, -graph.tensors[layer.input].quantization.zero_point * pixels, requant
            )
            return host, replace(host, post=replace(host.post, pool=pool))
    return None


def _join_lookup(
    graph: ir.Graph, layer: ir.Layer, lookup: ir.Lookup
) -> tuple[ir.Layer, ir.Layer] | None:
    """The table joins the layer before; one that only clamps joins its clamp, at no cost."""
    host = _host(graph, layer.input)
    if host is None or host.post.pool:
        return None
    low, high = int(lookup.table.min()), int(lookup.table.max())
    clamps = np.array_equal(lookup.table, np.clip(adds.BYTES, low, high))
    add = host.post.residual
    same = graph.tensors[layer.input].quantization == graph.tensors[lookup.result].quantization
    if add and clamps and same:
        add = replace(
            add,
            result=lookup.result,
            low=min(max(add.low, low), high),
            high=max(min(add.high, high), low),
        )
        return host, replace(host, post=replace(host.post, residual=add))
    if host.post.empty and clamps and isinstance(host, ir.Conv):
        requant = replace(
            host.requant,
            low=min(max(host.requant.low, low), high),
            high=max(min(host.requant.high, high), low),
        )
        return host, replace(host, result=lookup.result, requant=requant)
    if host.post.empty:
        return host, replace(host, post=ir.Post(lookup=lookup))
    return None


def _join_add(
    graph: ir.Graph, layer: ir.Layer, add: ir.Residual
) -> tuple[ir.Layer, ir.Layer] | None:
    """The add joins whichever operand is made last; the other one is in memory by then."""
    order = {made.output: index for index, made in enumerate(graph.layers)}
    first, second = layer.input, add.operand
    swapped = order.get(second, -1) > order.get(first, -1)
    flowing, resting = (second, first) if swapped else (first, second)
    host = _host(graph, flowing)
    if host is None or host.post.residual or host.post.pool or flowing == resting:
        return None
    if swapped:
        tensors = graph.tensors
        other = adds.adder(
            resting,
            add.result,
            tensors[first].quantization,
            tensors[second].quantization,
            tensors[add.result].quantization,
            minus=add.minus,
            swapped=True,
        )
        if other is None:
            return None
        add = replace(other, low=add.low, high=add.high)
    return host, replace(host, post=replace(host.post, residual=add))


def _host(graph: ir.Graph, tensor: str) -> ir.Layer | None:
    """The layer that makes `tensor`, if nobody else needs it in memory."""
    seen = [name for name in graph.outputs if tensor in graph.views_up(name)]
    if seen or len(graph.users(tensor)) != 1 or len(graph.views_up(tensor)) > 1:
        return None
    made = next((layer for layer in graph.layers if layer.output == tensor), None)
    # MUL has no second operand to spare and no table behind it
    return None if isinstance(made, ir.Multiply) else made


def is_global_average(graph: ir.Graph, layer: ir.Conv) -> bool:
    """Whether the layer sums all pixels of each channel and nothing else."""
    channels, height, width = graph.tensors[layer.input].shape
    return (
        layer.groups == channels == len(layer.weights)
        and layer.window == ir.Window((height, width))
        and bool((layer.weights == 1).all())
        and not layer.bias.any()
        and bool((layer.requant.multiplier == layer.requant.multiplier[0]).all())
        and layer.post.empty
        and height * width * 255 < POOL_LIMIT
        and height * width > 1
        and graph.tensors[layer.result].shape == (channels, 1, 1)
    )


def split_pools(graph: ir.Graph, taps: int) -> ir.Graph:
    """A maximum over more elements than a window holds is taken over columns, then over rows."""
    tensors = dict(graph.tensors)
    layers: list[ir.Layer] = []
    for layer in graph.layers:
        if not isinstance(layer, ir.MaxPool) or layer.window.taps <= taps:
            layers.append(layer)
            continue
        window, made = layer.window, tensors[layer.result]
        channels, _, width = tensors[layer.input].shape
        between = f"{layer.result}/columns"
        shape = (channels, made.shape[1], width)
        tensors[between] = replace(made, name=between, shape=shape)
        first = ir.Window(
            *((size[0], one) for size, one in zip(_parts(window), _NONE, strict=True))
        )
        second = ir.Window(
            *((one, size[1]) for size, one in zip(_parts(window), _NONE, strict=True))
        )
        layers.append(ir.MaxPool(layer.node, layer.input, between, window=first))
        layers.append(replace(layer, input=between, window=second))
    return replace(graph, tensors=tensors, layers=tuple(layers))


# kernel, stride, dilation and padding of an axis that a window leaves alone
_NONE = (1, 1, 1, 0)


def _parts(window: ir.Window) -> tuple[tuple[int, int], ...]:
    return window.kernel, window.stride, window.dilation, window.pad


def part_weights(graph: ir.Graph) -> ir.Graph:
    """Weights beyond int8 become a sum of parts, over an input that is joined to itself."""
    tensors = dict(graph.tensors)
    layers: list[ir.Layer] = []
    for layer in graph.layers:
        if not isinstance(layer, ir.Conv) or layer.weights.dtype == np.int8:
            layers.append(layer)
            continue
        parts = _parts_of(_dense(layer, tensors[layer.input].shape[0]).weights)
        source = tensors[layer.input]
        joined = f"{layer.result}/joined"
        shape = (source.shape[0] * len(parts), *source.shape[1:])
        tensors[joined] = replace(source, name=joined, shape=shape, view=None)
        names = (layer.input,) * len(parts)
        layers.append(ir.Concat(layer.node, layer.input, joined, parts=names))
        weights = np.concatenate(parts, axis=1)
        layers.append(replace(layer, input=joined, weights=weights, groups=1))
    return replace(graph, tensors=tensors, layers=tuple(layers))


def _parts_of(weights: ir.Weights) -> list[Int8]:
    """int8 arrays that add up to the weights."""
    parts = []
    rest = weights.astype(np.int16)
    while rest.any():
        part = np.clip(rest, -128, 127).astype(np.int8)
        parts.append(part)
        rest = rest - part
    return parts


def expand_groups(graph: ir.Graph) -> ir.Graph:
    """Grouped convolutions that are not depthwise become dense ones with zeros between groups."""
    layers: list[ir.Layer] = []
    for layer in graph.layers:
        if isinstance(layer, ir.Conv) and layer.groups > 1:
            channels = graph.tensors[layer.input].shape[0]
            if not layer.groups == channels == len(layer.weights):
                layers.append(_dense(layer, channels))
                continue
        layers.append(layer)
    return graph.with_layers(tuple(layers))


def _dense(layer: ir.Conv, channels: int) -> ir.Conv:
    """The same convolution in one group."""
    if layer.groups == 1:
        return layer
    if layer.weights.size * layer.groups > MOST_DENSE_WEIGHTS:
        reason = f"{layer.groups} groups of {layer.weights.size:,} weights"
        raise Refused([Problem(layer.node, "Conv", reason)])
    made, per_group = layer.weights.shape[:2]
    weights = np.zeros((made, channels, *layer.weights.shape[2:]), layer.weights.dtype)
    for channel in range(made):
        start = channel // (made // layer.groups) * per_group
        weights[channel, start : start + per_group] = layer.weights[channel]
    return replace(layer, weights=weights, groups=1)
