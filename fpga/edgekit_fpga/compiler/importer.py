"""ONNX to the intermediate form: QOperator and QDQ graphs, with CPU stages at both ends.

Nodes are visited in the graph's order. A float tensor made by DequantizeLinear is a *real view* of
a quantized one; float nodes over real views stay pending until a QuantizeLinear says how their
result is quantized, and are lowered then. So a QDQ graph and a float island in a QOperator graph
are the same thing. What is still pending at the end is the CPU stage after the NPU.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from edgekit_fpga.compiler import ir
from edgekit_fpga.compiler.builder import (
    MOST_ELEMENTS,
    Builder,
    Node,
    Unsupported,
    quantization_json,
    stage_attributes,
)
from edgekit_fpga.compiler.constants import array_of, fold
from edgekit_fpga.compiler.operators import OPERATORS
from edgekit_fpga.cpu import STAGE_OPERATORS, CpuOp
from edgekit_fpga.errors import GraphError, Problem, Refused

log = logging.getLogger(__name__)

MOST_NODES = 5000

Array = NDArray[Any]
HINT = "quantize the whole model to int8 with ONNX Runtime's quantizer, or move the node out"


@dataclass(frozen=True)
class Imported:
    """The NPU's graph between its CPU stages, and the ONNX shapes (without batch) at the ends."""

    graph: ir.Graph
    before: tuple[CpuOp, ...]
    after: tuple[CpuOp, ...]
    shapes: dict[str, tuple[int, ...]]
    inputs: dict[str, tuple[str, tuple[int, ...]]]
    outputs: tuple[str, ...]
    macs: int
    integers: tuple[str, ...] = ()


def import_model(model: bytes, *, integer_averages: bool = False) -> Imported:
    """Read an ONNX model.

    Args:
        model: the ONNX file's bytes.
        integer_averages: round averages in integers where ONNX Runtime rounds them by chance.

    Raises:
        GraphError: no ONNX model, one with a cycle, or one without fixed shapes.
        Refused: nodes the NPU cannot run, all in one message.
    """
    proto = _parse(model)
    graph = proto.graph
    builder = Builder(_initializers(graph), integer_averages, _opset(proto))
    inputs = {}
    for value in graph.input:
        if value.name in builder.constants:
            continue
        shape, dtype = _described(value)
        builder.shapes[value.name], builder.types[value.name] = shape, dtype
        inputs[value.name] = (str(dtype), shape)
    problems = _walk(builder, [Node.of(node, i) for i, node in enumerate(graph.node)])
    if problems:
        raise Refused(problems, HINT)
    outputs = tuple(value.name for value in graph.output)
    return _finish(builder, inputs, outputs)


def _walk(builder: Builder, nodes: list[Node]) -> list[Problem]:
    problems = []
    # tensors made by refused nodes: those that need them are not reported again
    broken: set[str] = set()
    for node in nodes:
        if broken.intersection(node.inputs):
            broken.update(node.outputs)
            continue
        try:
            _enter(builder, node)
        except Unsupported as reason:
            problems.append(Problem(node.name, node.operator, str(reason)))
            broken.update(node.outputs)
    return problems


def _enter(builder: Builder, node: Node) -> None:
    """Enter one node.

    Raises:
        Unsupported: with the reason.
    """
    handler: Callable[[Builder, Node], None] | None = OPERATORS.get(node.operator)
    try:
        if fold(builder, node):
            return
        if handler is None:
            raise Unsupported("no such operation on the NPU")
        handler(builder, node)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # an input or attribute that the operator needs is not there, or not of its kind
        log.debug("%s", node, exc_info=True)
        said = str(error).partition("\n")[0]
        raise Unsupported(f"it is malformed ({type(error).__name__}: {said})") from error


def _finish(
    builder: Builder, inputs: dict[str, tuple[str, tuple[int, ...]]], outputs: tuple[str, ...]
) -> Imported:
    """Close the graph: what is pending becomes the stage after the NPU."""
    problems: list[Problem] = []
    needed: list[str] = []
    done: set[str] = set()
    flattens = {layer.result: layer for layer in builder.layers if isinstance(layer, ir.Flatten)}

    def settle(name: str) -> None:
        if name in done:
            return
        done.add(name)
        real = builder.alias.get(name, name)
        if real in builder.late:
            operation = builder.late[real].operation
            settle(operation.inputs[0])
            builder.after.append(operation)
        elif real in flattens:
            layer = flattens[real]
            settle(layer.input)
            after = builder.after
            shape = list(builder.shapes[layer.input])
            held = layer.input
            if layer.order != (0, 1, 2):
                held = f"{real}/ordered"
                perm = [0, *(axis + 1 for axis in layer.order[: len(shape)])]
                after.append(CpuOp("Transpose", (layer.input,), held, {"perm": perm}))
            after.append(CpuOp("Reshape", (held,), real, {"shape": list(builder.shapes[real])}))
        elif real in builder.tensors:
            needed.append(real)
            if real != name:
                builder.after.append(
                    CpuOp("Reshape", (real,), name, {"shape": list(builder.shapes[name])})
                )
        elif name in builder.real:
            settle(builder.real[name])
            quantization = builder.quantization_of(name)
            builder.after.append(
                CpuOp(
                    "DequantizeLinear", (builder.real[name],), name, quantization_json(quantization)
                )
            )
        elif name in builder.pending:
            node = builder.pending[name]
            if node.operator not in STAGE_OPERATORS:
                problems.append(Problem(node.name, node.operator, "its result is not quantized"))
                return
            settle(node.inputs[0])
            builder.after.append(
                CpuOp(node.operator, (node.inputs[0],), name, stage_attributes(builder, node))
            )
        else:
            problems.append(Problem(name, "output", "nothing quantized leads to it"))

    for name in outputs:
        settle(name)
    if problems:
        raise Refused(problems, HINT)
    # what no layer reads was only a step on the way to another entry, or to the stage behind
    read = {name for layer in builder.layers for name in layer.inputs} | set(needed)
    builder.layers = [
        layer
        for layer in builder.layers
        if not isinstance(layer, ir.Flatten) or layer.result in read
    ]
    graph = ir.Graph(
        builder.tensors,
        tuple(builder.layers),
        tuple(name for name in builder.entries if name in read),
        tuple(dict.fromkeys(needed)),
    )
    return Imported(
        graph,
        tuple(builder.before),
        tuple(builder.after),
        builder.shapes,
        inputs,
        outputs,
        sum(
            layer.macs(graph.tensors[layer.result].shape)
            for layer in graph.layers
            if isinstance(layer, ir.Conv)
        ),
        tuple(builder.integers),
    )


def _parse(model: bytes) -> onnx.ModelProto:
    try:
        proto = onnx.load_model_from_string(model)
    except (DecodeError, ValueError) as error:
        raise GraphError("the file is no ONNX model", "give an .onnx file") from error
    if not proto.graph.node:
        raise GraphError("the file is no ONNX model: it has no graph", "give an .onnx file")
    if len(proto.graph.node) > MOST_NODES:
        raise GraphError(f"the graph has {len(proto.graph.node):,} nodes, no NPU runs so many")
    _check_order(proto.graph)
    if not proto.graph.output:
        raise GraphError("the graph has no outputs", "give the whole model")
    return proto


def _check_order(graph: onnx.GraphProto) -> None:
    """Every name is made once, before it is read."""
    known = {"", *(value.name for value in graph.input), *(t.name for t in graph.initializer)}
    made: set[str] = set()
    for index, node in enumerate(graph.node):
        for name in node.input:
            if name not in known:
                raise GraphError(
                    f"{Node.of(node, index).name} ({node.op_type}) reads {name} before it is made: "
                    "the graph has a cycle, is not sorted, or lacks an initializer",
                    "check it with onnx.checker",
                )
        for name in filter(None, node.output):
            if name in made or name in known:
                raise GraphError(
                    f"{Node.of(node, index).name} ({node.op_type}) makes {name} a second time",
                    "check it with onnx.checker",
                )
            made.add(name)
        known.update(node.output)


def _opset(proto: onnx.ModelProto) -> int:
    versions = [entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    return max(versions, default=1)


def _initializers(graph: onnx.GraphProto) -> dict[str, Array]:
    try:
        return {tensor.name: array_of(tensor) for tensor in graph.initializer}
    except Unsupported as error:
        raise GraphError(str(error), "export the model again") from error


def _described(value: onnx.ValueInfoProto) -> tuple[tuple[int, ...], np.dtype[Any]]:
    kind = value.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else 0 for d in kind.shape.dim]
    if len(dims) < 2 or any(size < 1 for size in dims[1:]):
        raise GraphError(
            f"input {value.name} has the shape {dims}: a batch first, then fixed sizes are needed",
            "export the model with fixed sizes",
        )
    if math.prod(dims[1:]) > MOST_ELEMENTS:
        raise GraphError(f"input {value.name} has the shape {dims}", "give a smaller model")
    try:
        return tuple(dims[1:]), np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    except (KeyError, TypeError) as error:
        raise GraphError(f"input {value.name} has no type", "export the model again") from error
