"""The intermediate form as text, and what each pass made of it: to look at, and to check."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgekit_fpga.compiler import ir
from edgekit_fpga.compiler.execute import execute


@dataclass(frozen=True, eq=False)
class PassReport:
    """A pass: its name, the graph behind it as text, and how its tensors compare.

    `compared` values of tensors that were there before the pass as well, `differ` of them changed.
    """

    name: str
    text: str
    layers: int
    compared: int
    differ: int


def reports(steps: Sequence[tuple[str, ir.Graph]], seed: int = 0) -> list[PassReport]:
    """Execute the graph behind each pass on the same random input and compare it with the first.

    Args:
        steps: name of the pass and the graph behind it, in order, beginning with the import.
        seed: where the random input starts.
    """
    random = np.random.default_rng(seed)
    first = steps[0][1]
    inputs = {
        name: random.integers(-128, 128, (1, *first.tensors[name].shape), np.int8)
        for name in first.inputs
    }
    known: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.int8]]] = {}
    made = []
    for name, graph in steps:
        values = execute(graph, inputs)
        shared = known.keys() & values.keys()
        made.append(
            PassReport(
                name,
                listing(graph),
                len(graph.layers),
                sum(values[tensor].size for tensor in shared),
                sum(int((values[tensor] != known[tensor]).sum()) for tensor in shared),
            )
        )
        known = values | known
    return made


def listing(graph: ir.Graph) -> str:
    """One line an input, a layer, an output: the node, what it does, tensors with their shapes."""
    lines = [f"input   {_tensor(graph, name)}" for name in graph.inputs]
    lines += [
        f"{layer.node}: {_does(layer)} {', '.join(layer.inputs)} -> {_makes(graph, layer)}"
        for layer in graph.layers
    ]
    lines += [f"output  {_tensor(graph, name)}" for name in graph.outputs]
    return "\n".join(lines) + "\n"


def _does(layer: ir.Layer) -> str:
    words = [type(layer).__name__]
    if isinstance(layer, ir.Conv | ir.MaxPool | ir.Copy) and layer.window != ir.Window():
        window = layer.window
        names = ("kernel", "stride", "dilation", "pad")
        words += [
            f"{name}={'x'.join(map(str, getattr(window, name)))}"
            for name in names
            if getattr(window, name) != getattr(ir.Window(), name)
        ]
    if isinstance(layer, ir.Conv) and layer.groups > 1:
        words.append(f"groups={layer.groups}")
    if isinstance(layer, ir.Copy) and layer.repeat != (1, 1):
        words.append(f"repeat={'x'.join(map(str, layer.repeat))}")
    if isinstance(layer, ir.ChannelSlice):
        words.append(f"from={layer.start}")
    return " ".join(words)


def _makes(graph: ir.Graph, layer: ir.Layer) -> str:
    post = layer.post
    steps = [_tensor(graph, layer.result)]
    if post.lookup:
        steps.append(f"table {_tensor(graph, post.lookup.result)}")
    if post.residual:
        word = "subtract" if post.residual.minus else "add"
        steps.append(f"{word} {_tensor(graph, post.residual.result)}")
    if post.pool:
        steps.append(f"average {_tensor(graph, post.pool.result)}")
    return ", ".join(steps)


def _tensor(graph: ir.Graph, name: str) -> str:
    tensor = graph.tensors[name]
    part = f" of {tensor.view[0]} from {tensor.view[1]}" if tensor.view else ""
    quantization = tensor.quantization
    return (
        f"{name} {'x'.join(map(str, tensor.shape))}{part} "
        f"({float(quantization.scale):.6g}, {quantization.zero_point})"
    )
