"""Element by element: sums, products, tables."""

from dataclasses import replace

import numpy as np

from edgekit_fpga.arithmetic import Int8
from edgekit_fpga.compiler import adds, ir, multiplies
from edgekit_fpga.compiler.builder import Builder, Node, Unsupported
from edgekit_fpga.compiler.tables import evaluate, requantize_table

MAX_REPEAT = 255


def qlinear_add(b: Builder, node: Node) -> None:
    """QLinearAdd of two activations."""
    operands, outgoing = _operands(b, node)
    add_tensors(b, node, operands, node.outputs[0], outgoing)


def qlinear_mul(b: Builder, node: Node) -> None:
    """QLinearMul of two activations."""
    operands, outgoing = _operands(b, node)
    multiply_tensors(b, node, operands, node.outputs[0], outgoing)


def _operands(b: Builder, node: Node) -> tuple[tuple[str, str], ir.Quantization]:
    x, xs, xz, y, ys, yz, zs, zz = node.inputs
    b.entry(x, b.quantization(xs, xz))
    b.entry(y, b.quantization(ys, yz))
    return (x, y), b.quantization(zs, zz)


def add_tensors(
    b: Builder,
    node: Node,
    operands: tuple[str, str],
    made: str,
    outgoing: ir.Quantization,
    clamp: tuple[int, int] = (-128, 127),
    *,
    minus: bool = False,
) -> None:
    """A sum, or with `minus` a difference, of two activations."""
    first, second, shape = _same_shape(b, node, operands, made)
    one, two = b.tensors[first], b.tensors[second]
    residual = adds.adder(second, made, one.quantization, two.quantization, outgoing, minus=minus)
    if residual is None:
        raise Unsupported("no fixed-point constants reproduce its float arithmetic")
    residual = replace(residual, low=clamp[0], high=clamp[1])
    b.add_tensor(made, shape, outgoing)
    copied = f"{made}/first"
    b.tensors[copied] = replace(one, name=copied)
    b.layers.append(ir.Copy(node.name, first, copied, post=ir.Post(residual=residual)))


def multiply_tensors(
    b: Builder,
    node: Node,
    operands: tuple[str, str],
    made: str,
    outgoing: ir.Quantization,
    clamp: tuple[int, int] = (-128, 127),
) -> None:
    """A product of two activations."""
    first, second, shape = _same_shape(b, node, operands, made)
    one, two = b.tensors[first].quantization, b.tensors[second].quantization
    products = multiplies.parts(one, two, outgoing)
    if products is None:
        raise Unsupported("no fixed-point constants reproduce its float arithmetic")
    names = [made] if len(products) == 1 else [f"{made}/below", f"{made}/above"]
    for name, product in zip(names, products, strict=True):
        low, high = clamp if name == made else (product.low, product.high)
        b.add_tensor(name, shape, outgoing)
        b.layers.append(
            ir.Multiply(
                node.name,
                first,
                name,
                operand=second,
                bias=product.bias,
                mantissa=product.mantissa,
                shift=product.shift,
                zero_point=product.zero_point,
                low=low,
                high=high,
            )
        )
    if made not in names:
        add_tensors(b, node, (names[0], names[1]), made, outgoing, clamp)


def _same_shape(
    b: Builder, node: Node, operands: tuple[str, str], made: str
) -> tuple[str, str, tuple[int, ...]]:
    """Both operands and their common ONNX shape; one value a channel is spread over the plane."""
    held = [b.source(name) for name in operands]
    shapes = [b.shapes[name] for name in operands]
    if len(shapes[0]) != len(shapes[1]):
        raise Unsupported(f"shapes {shapes[0]} and {shapes[1]} differ")
    if shapes[0] == shapes[1]:
        return held[0], held[1], shapes[0]
    small = int(np.prod(shapes[1]) < np.prod(shapes[0]))
    shape = shapes[1 - small]
    plane = b.tensors[held[1 - small]].shape[1:]
    if shapes[small] != (shape[0], *[1] * (len(shape) - 1)) or max(plane) > MAX_REPEAT:
        raise Unsupported(f"shapes {shapes[0]} and {shapes[1]} differ")
    spread = f"{made}/spread"
    b.add_tensor(spread, shape, b.tensors[held[small]].quantization)
    b.layers.append(ir.Copy(node.name, held[small], spread, repeat=plane))
    held[small] = spread
    return held[0], held[1], shape


def with_quantization(
    b: Builder,
    node: Node,
    held: str,
    made: str,
    shape: tuple[int, ...],
    outgoing: ir.Quantization,
) -> str:
    """The tensor in another quantization, through a table where it has not that one already."""
    incoming = b.tensors[held].quantization
    if incoming == outgoing:
        return held
    table_layer(b, node.name, held, made, shape, outgoing, requantize_table(incoming, outgoing))
    return made


def qlinear_table(b: Builder, node: Node) -> None:
    """QLinearSigmoid and QLinearLeakyRelu: a table of 256 entries."""
    x, xs, xz, ys, yz = (*node.inputs, "")[:5]
    held = b.entry(x, b.quantization(xs, xz))
    outgoing = b.quantization(ys, yz)
    operator = node.operator.removeprefix("QLinear")
    plain = replace(node, operator=operator, inputs=("x",), outputs=("y",))
    table = evaluate([plain], {}, "x", "y", b.tensors[held].quantization, outgoing)
    table_layer(b, node.name, held, node.outputs[0], b.shapes[x], outgoing, table)


def table_layer(
    b: Builder,
    name: str,
    held: str,
    made: str,
    shape: tuple[int, ...],
    outgoing: ir.Quantization,
    table: Int8,
) -> None:
    """A table of 256 entries over one activation."""
    b.add_tensor(made, shape, outgoing)
    copied = f"{made}/in"
    b.tensors[copied] = replace(b.tensors[held], name=copied)
    b.layers.append(ir.Copy(name, held, copied, post=ir.Post(lookup=ir.Lookup(made, table))))
