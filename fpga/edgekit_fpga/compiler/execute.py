"""Executes the intermediate form, plainly: what every pass of the compiler must leave unchanged."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga.arithmetic import Int8, Int64, fixed_add, float_requantize, requantize
from edgekit_fpga.compiler import ir


def execute(graph: ir.Graph, inputs: Mapping[str, Int8]) -> dict[str, Int8]:
    """Run the graph on stored int8 arrays of shape (N, C, H, W); every tensor by its name."""
    values: dict[str, Int8] = {name: inputs[name] for name in graph.inputs}
    batch = len(next(iter(values.values())))
    for layer in graph.layers:
        for name in layer.inputs:
            values.setdefault(name, _viewed(graph, name, values))
        value = _own_result(graph, layer, values)
        values[layer.result] = value
        _post(layer.post, value, values)
        root, start = graph.root(layer.output)
        if root != layer.output:
            shape = graph.tensors[root].shape
            whole = values.setdefault(root, np.zeros((batch, *shape), np.int8))
            made = values[layer.output]
            whole[:, start : start + made.shape[1]] = made
    for name in graph.outputs:
        values.setdefault(name, _viewed(graph, name, values))
    return values


def _viewed(graph: ir.Graph, name: str, values: Mapping[str, Int8]) -> Int8:
    """The channels of another tensor that the tensor is."""
    root, start = graph.root(name)
    return values[root][:, start : start + graph.tensors[name].shape[0]]


def _own_result(graph: ir.Graph, layer: ir.Layer, values: Mapping[str, Int8]) -> Int8:
    source = values[layer.input]
    quantization = graph.tensors[layer.input].quantization
    shape = graph.tensors[layer.result].shape
    if isinstance(layer, ir.Conv):
        taps = windows(source, layer.window, shape[1:], quantization.zero_point)
        total = _convolve(taps.astype(np.int64) - quantization.zero_point, layer)
        requant = layer.requant
        moved = float_requantize(
            np.moveaxis(total, 1, -1),
            requant.multiplier,
            requant.zero_point,
            requant.low,
            requant.high,
        )
        return np.moveaxis(moved, -1, 1)
    if isinstance(layer, ir.MaxPool):
        largest: Int8 = windows(source, layer.window, shape[1:], -128).max(axis=(2, 3))
        return largest
    if isinstance(layer, ir.Copy):
        high, wide = layer.repeat
        rows = -(-shape[1] // high), -(-shape[2] // wide)
        pad = quantization.zero_point if layer.pad_value is None else layer.pad_value
        moved = windows(source, layer.window, rows, pad)[:, :, 0, 0]
        return moved.repeat(high, axis=2).repeat(wide, axis=3)[:, :, : shape[1], : shape[2]]
    if isinstance(layer, ir.Multiply):
        return _product(graph, layer, source, values[layer.operand])
    if isinstance(layer, ir.Concat):
        return np.concatenate([values[name] for name in layer.parts], axis=1)
    if isinstance(layer, ir.ChannelSlice):
        return source[:, layer.start : layer.start + shape[0]]
    assert isinstance(layer, ir.Flatten), layer
    ordered = source.transpose(0, *(axis + 1 for axis in layer.order))
    return ordered.reshape(len(source), -1, 1, 1)


def _product(graph: ir.Graph, layer: ir.Multiply, first: Int8, second: Int8) -> Int8:
    zero_points = [graph.tensors[name].quantization.zero_point for name in layer.inputs]
    product = (first.astype(np.int64) - zero_points[0]) * (second - np.int64(zero_points[1]))
    mantissa, shift = np.int64(layer.mantissa), np.int64(layer.shift)
    return requantize(
        product + layer.bias, mantissa, shift, layer.zero_point, layer.low, layer.high
    )


def _post(post: ir.Post, value: Int8, values: dict[str, Int8]) -> None:
    if post.lookup:
        value = values[post.lookup.result] = post.lookup.table[value.view(np.uint8)]
    if post.residual:
        add = post.residual
        entries = add.table[values[add.operand].view(np.uint8)]
        value = values[add.result] = fixed_add(
            value, entries, add.multiplier, add.shift, add.offset, add.low, add.high
        )
    if post.pool:
        requant = post.pool.requant
        total = value.sum(axis=(2, 3), dtype=np.int64, keepdims=True) + post.pool.bias
        values[post.pool.result] = float_requantize(
            total, requant.multiplier, requant.zero_point, requant.low, requant.high
        )


def windows(
    source: Int8, window: ir.Window, size: tuple[int, int], pad_value: int
) -> NDArray[np.int8]:
    """The input elements of each window: (N, C, KH, KW, H, W) for outputs of (H, W) = `size`."""
    (kernel_h, kernel_w), (stride_h, stride_w) = window.kernel, window.stride
    (dilate_h, dilate_w), (top, left) = window.dilation, window.pad
    need_h = (size[0] - 1) * stride_h + (kernel_h - 1) * dilate_h + 1
    need_w = (size[1] - 1) * stride_w + (kernel_w - 1) * dilate_w + 1
    batch, channels = source.shape[:2]
    padded = np.full((batch, channels, need_h, need_w), pad_value, np.int8)
    # a negative pad crops
    row, column = max(top, 0), max(left, 0)
    part = source[:, :, max(-top, 0) :, max(-left, 0) :][:, :, : need_h - row, : need_w - column]
    padded[:, :, row : row + part.shape[2], column : column + part.shape[3]] = part
    out = np.empty((batch, channels, kernel_h, kernel_w, *size), np.int8)
    for y in range(kernel_h):
        for x in range(kernel_w):
            out[:, :, y, x] = padded[
                :,
                :,
                y * dilate_h : y * dilate_h + (size[0] - 1) * stride_h + 1 : stride_h,
                x * dilate_w : x * dilate_w + (size[1] - 1) * stride_w + 1 : stride_w,
            ]
    return out


def _convolve(taps: Int64, layer: ir.Conv) -> Int64:
    batch, channels, _, _, height, width = taps.shape
    grouped = taps.reshape(batch, layer.groups, channels // layer.groups, *taps.shape[2:])
    weights = layer.weights.astype(np.int64)
    weights = weights.reshape(layer.groups, -1, *weights.shape[1:])
    total: Int64 = np.einsum("ngcklyx,gmckl->ngmyx", grouped, weights, optimize=True)
    biased: Int64 = total.reshape(batch, -1, height, width) + layer.bias[:, None, None]
    return biased
