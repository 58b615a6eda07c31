"""Float nodes between DequantizeLinear and QuantizeLinear, and what follows the NPU."""

from collections.abc import Callable

import numpy as np

from edgekit_fpga.arithmetic import Float32, Int64
from edgekit_fpga.compiler import ir
from edgekit_fpga.compiler.builder import Builder, Node, Unsupported
from edgekit_fpga.compiler.operators.elementwise import (
    add_tensors,
    multiply_tensors,
    table_layer,
)
from edgekit_fpga.compiler.operators.joining import concat_parts
from edgekit_fpga.compiler.operators.linear import (
    centred_weights,
    convolution,
    dense,
    multipliers,
)
from edgekit_fpga.compiler.operators.pooling import average, average_all
from edgekit_fpga.compiler.tables import ELEMENTWISE, evaluate

# ONNX Runtime takes the integers of a bias whose scale is about that of its accumulator
BIAS_SCALE_TOLERANCE = 0.01


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
    table_layer(b, node.name, held, made, b.shapes[leaf], outgoing, table)


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
) -> tuple[str, ir.Weights, Int64, Float32]:
    """Source, weights, bias in accumulator units, and multipliers of a QDQ Conv or Gemm."""
    held = b.source(node.inputs[0])
    if node.inputs[1] not in b.weights:
        raise Unsupported("its weights are not quantized constants")
    stored, scale, zero, _ = b.weights[node.inputs[1]]
    centred = centred_weights(stored, zero, axis)
    channels = centred.shape[axis]
    incoming = b.tensors[held].quantization
    bias: Int64 = np.zeros(channels, np.int64)
    if len(node.inputs) > 2 and node.inputs[2]:
        bias = _accumulator_bias(b, node.inputs[2], np.float32(incoming.scale) * scale)
    return held, centred, bias, multipliers(incoming, scale, outgoing, channels)


def _accumulator_bias(b: Builder, name: str, unit: Float32) -> Int64:
    """A bias in units of the accumulator: input scale times weight scale.

    A quantized bias has that scale, to some rounding, and its integers are taken; with another
    scale ONNX Runtime computes the layer in float32. A float bias is quantized.
    """
    if name in b.weights:
        stored, scale, zero, _ = b.weights[name]
        if zero.any() or not np.allclose(scale, unit, rtol=BIAS_SCALE_TOLERANCE, atol=0):
            raise Unsupported("the scale of its bias is not that of its input times its weights")
        return stored.astype(np.int64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scaled = np.rint(b.constant(name, "bias") / unit)
    if not (np.abs(scaled) < 1 << 31).all():
        raise Unsupported("its bias is not finite, or does not fit int32")
    return scaled.astype(np.int64)


def _float_add(
    b: Builder, node: Node, made: str, outgoing: ir.Quantization, clamp: tuple[int, int]
) -> None:
    add_tensors(b, node, (node.inputs[0], node.inputs[1]), made, outgoing, clamp)


def _float_sub(
    b: Builder, node: Node, made: str, outgoing: ir.Quantization, clamp: tuple[int, int]
) -> None:
    add_tensors(b, node, (node.inputs[0], node.inputs[1]), made, outgoing, clamp, minus=True)


def _float_mul(
    b: Builder, node: Node, made: str, outgoing: ir.Quantization, clamp: tuple[int, int]
) -> None:
    multiply_tensors(b, node, (node.inputs[0], node.inputs[1]), made, outgoing, clamp)


def _float_average(
    b: Builder, node: Node, made: str, outgoing: ir.Quantization, clamp: tuple[int, int]
) -> None:
    if clamp != (-128, 127):
        raise Unsupported("an activation follows it")
    average(b, node, b.source(node.inputs[0]), made, outgoing)


def _float_concat(
    b: Builder, node: Node, made: str, outgoing: ir.Quantization, clamp: tuple[int, int]
) -> None:
    if clamp != (-128, 127):
        raise Unsupported("an activation follows it")
    concat_parts(b, node, list(node.inputs), made, outgoing)


def _float_global_average(
    b: Builder, node: Node, made: str, outgoing: ir.Quantization, clamp: tuple[int, int]
) -> None:
    if clamp != (-128, 127):
        raise Unsupported("an activation follows it")
    average_all(b, node.name, node.inputs[0], made, outgoing)


Lowering = Callable[[Builder, Node, str, ir.Quantization, tuple[int, int]], None]

FLOAT_OPERATORS: dict[str, Lowering] = {
    "Conv": _float_conv,
    "Gemm": _float_gemm,
    "MatMul": _float_gemm,
    "Add": _float_add,
    "Sub": _float_sub,
    "Mul": _float_mul,
    "Concat": _float_concat,
    "AveragePool": _float_average,
    "GlobalAveragePool": _float_global_average,
}
