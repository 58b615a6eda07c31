"""Concat and channel slices as views: parts of one tensor's channels, where they fall on granules.

A part that begins in the middle of a granule cannot be addressed; a 1x1 convolution with weights of
one, whose requantization is the identity, moves it.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga.compiler import ir
from edgekit_fpga.cycles import ceil_div


def lay_out(graph: ir.Graph, lanes: int) -> ir.Graph:
    """Replace every Concat and ChannelSlice by views, copies and selections.

    Args:
        graph: the graph.
        lanes: channels of a granule.
    """
    tensors = dict(graph.tensors)
    layers = list(graph.layers)
    for layer in graph.layers:
        here = ir.Graph(tensors, tuple(layers), graph.inputs, graph.outputs)
        if isinstance(layer, ir.ChannelSlice):
            place = layers.index(layer)
            if layer.start % lanes == 0:
                view = (layer.input, layer.start)
                tensors[layer.result] = replace(tensors[layer.result], view=view)
                layers[place : place + 1] = []
            else:
                count = tensors[layer.result].shape[0]
                chosen = np.arange(layer.start, layer.start + count)
                layers[place] = _select(here, layer.node, layer.input, layer.result, chosen)
        elif isinstance(layer, ir.Concat):
            _join(here, tensors, layers, layer, lanes)
    return ir.Graph(tensors, tuple(layers), graph.inputs, graph.outputs)


def _join(
    graph: ir.Graph,
    tensors: dict[str, ir.Tensor],
    layers: list[ir.Layer],
    layer: ir.Concat,
    lanes: int,
) -> None:
    result = tensors[layer.result]
    sizes = [tensors[name].shape[0] for name in layer.parts]
    padded = [ceil_div(size, lanes) * lanes for size in sizes[:-1]] + [sizes[-1]]
    starts = [sum(padded[:index]) for index in range(len(padded))]
    aligned = padded == sizes
    whole = layer.result if aligned else f"{layer.result}/parts"
    if not aligned:
        shape = (sum(padded), *result.shape[1:])
        tensors[whole] = replace(result, name=whole, shape=shape)
    after: list[ir.Layer] = []
    for index, (name, start) in enumerate(zip(layer.parts, starts, strict=True)):
        if _movable(graph, name, layer):
            tensors[name] = replace(tensors[name], view=(whole, start))
        else:
            part = f"{layer.result}/copy{index}"
            tensors[part] = replace(tensors[name], name=part, view=(whole, start))
            after.append(ir.Copy(layer.node, name, part))
    if not aligned:
        chosen = np.concatenate(
            [start + np.arange(size) for start, size in zip(starts, sizes, strict=True)]
        )
        moved = ir.Graph(tensors, graph.layers, graph.inputs, graph.outputs)
        after.append(_select(moved, layer.node, whole, layer.result, chosen))
    place = layers.index(layer)
    layers[place : place + 1] = after


def _movable(graph: ir.Graph, name: str, layer: ir.Concat) -> bool:
    """Whether the tensor can be written straight into the whole: nobody else needs it alone."""
    return (
        name not in graph.inputs
        and name not in graph.outputs
        and graph.tensors[name].view is None
        and graph.users(name) == [layer]
        and layer.parts.count(name) == 1
        and all(other.view is None or other.view[0] != name for other in graph.tensors.values())
        and not any(isinstance(made, ir.Flatten) and made.result == name for made in graph.layers)
    )


def _select(
    graph: ir.Graph, node: str, source: str, made: str, chosen: NDArray[np.integer]
) -> ir.Conv:
    """A convolution that copies some channels of a tensor in some order."""
    channels = graph.tensors[source].shape[0]
    quantization = graph.tensors[made].quantization
    weights = np.zeros((len(chosen), channels, 1, 1), np.int8)
    weights[np.arange(len(chosen)), chosen] = 1
    return ir.Conv(
        node,
        source,
        made,
        weights=weights,
        bias=np.zeros(len(chosen), np.int64),
        requant=ir.Requant(np.ones(len(chosen), np.float32), quantization.zero_point),
        window=ir.Window(),
        groups=1,
        products=0,
    )
