"""Concat on channels."""

from edgekit_fpga.compiler import ir
from edgekit_fpga.compiler.builder import Builder, Node, Unsupported
from edgekit_fpga.compiler.operators.elementwise import with_quantization
from edgekit_fpga.compiler.operators.postponing import postpone


def qlinear_concat(b: Builder, node: Node) -> None:
    """QLinearConcat on channels; parts of another quantization pass through a table."""
    outgoing = b.quantization(node.inputs[0], node.inputs[1])
    parts = []
    for name, scale, zero in zip(*[iter(node.inputs[2:])] * 3, strict=True):
        b.entry(name, b.quantization(scale, zero))
        parts.append(name)
    concat_parts(b, node, parts, node.outputs[0], outgoing)


def concat(b: Builder, node: Node) -> None:
    """Concat of tensors that share one quantization."""
    if node.inputs[0] in b.real:
        postpone(b, node)
        return
    parts = list(node.inputs)
    quantizations = {b.tensors[b.source(name)].quantization for name in parts}
    if len(quantizations) > 1:
        raise Unsupported("it joins tensors of different quantization without saying which to use")
    concat_parts(b, node, parts, node.outputs[0], quantizations.pop())


def concat_parts(
    b: Builder, node: Node, parts: list[str], made: str, outgoing: ir.Quantization
) -> None:
    """Concatenate on channels after bringing every part to one quantization."""
    rank = len(b.shapes[parts[0]]) + 1
    if int(node.attributes["axis"]) % rank != 1:
        raise Unsupported("it joins along another axis than the channels")
    shapes = [b.shapes[name] for name in parts]
    if len({shape[1:] for shape in shapes}) > 1:
        raise Unsupported(f"it joins shapes {shapes}")
    ready = [
        with_quantization(b, node, b.source(name), f"{made}/part{index}", shape, outgoing)
        for index, (name, shape) in enumerate(zip(parts, shapes, strict=True))
    ]
    b.add_tensor(made, (sum(shape[0] for shape in shapes), *shapes[0][1:]), outgoing)
    b.layers.append(ir.Concat(node.name, ready[0], made, parts=tuple(ready)))
