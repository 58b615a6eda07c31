"""ONNX to the intermediate form: QOperator and QDQ graphs, with CPU stages at both ends.

Nodes are visited in the graph's order. A float tensor made by DequantizeLinear is a *real view* of
a quantized one; float nodes over real views stay pending until a QuantizeLinear says how their
result is quantized, and are lowered then. So a QDQ graph and a float island in a QOperator graph
are the same thing. What is still pending at the end is the CPU stage after the NPU.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from edgekit_fpga.compiler import ir
from edgekit_fpga.cpu import STAGE_OPERATORS, CpuOp
from edgekit_fpga.errors import FpgaError, GraphError, Problem, Refused

log = logging.getLogger(__name__)

Array = NDArray[Any]
# what the quantized tensor behind a float node's result is called
QUANTIZED = "/quantized"
HINT = "quantize the whole model to int8 with ONNX Runtime's quantizer, or move the node out"


class Unsupported(Exception):
    """A node the NPU cannot run; the message is the reason."""


@dataclass(frozen=True)
class Node:
    """One ONNX node: name, operator, input and output names, attributes as Python values."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    @classmethod
    def of(cls, proto: onnx.NodeProto, index: int) -> "Node":
        """Read the protobuf; a node without a name is called after its operator and place."""
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
        name = proto.name or f"{proto.op_type}_{index}"
        return cls(name, proto.op_type, tuple(proto.input), tuple(proto.output), attributes)


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


@dataclass
class Builder:
    """What is known while the graph is walked; operators add tensors and layers to it."""

    constants: dict[str, Array]
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    types: dict[str, np.dtype[Any]] = field(default_factory=dict)
    tensors: dict[str, ir.Tensor] = field(default_factory=dict)
    layers: list[ir.Layer] = field(default_factory=list)
    real: dict[str, str] = field(default_factory=dict)
    pending: dict[str, Node] = field(default_factory=dict)
    before: list[CpuOp] = field(default_factory=list)
    after: list[CpuOp] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)
    alias: dict[str, str] = field(default_factory=dict)
    weights: dict[str, tuple[Array, Array, Array, int]] = field(default_factory=dict)
    permuted: dict[str, tuple[str, tuple[int, int, int]]] = field(default_factory=dict)
    late: dict[str, tuple[Node, CpuOp]] = field(default_factory=dict)

    def constant(self, name: str, what: str) -> Array:
        """The value of an input that must be known at compile time."""
        if name not in self.constants:
            raise Unsupported(f"its {what} is not a constant")
        return self.constants[name]

    def quantization(self, scale: str, zero_point: str) -> ir.Quantization:
        """Per-tensor quantization from the names of its constants."""
        values = self.constant(scale, "scale")
        zero = self.constant(zero_point, "zero point") if zero_point else np.uint8(0)
        zero = np.asarray(zero)
        if values.size != 1 or zero.size != 1:
            raise Unsupported("activations are quantized per channel")
        if zero.dtype not in (np.int8, np.uint8):
            raise Unsupported(f"activations are {zero.dtype}, not int8 or uint8")
        unsigned = zero.dtype == np.uint8
        point = int(zero.reshape(())) - (128 if unsigned else 0)
        scalar = np.float32(values.reshape(()))
        try:
            return ir.Quantization(scalar, point, unsigned)
        except FpgaError as error:
            raise Unsupported(str(error)) from error

    def add_tensor(
        self, name: str, shape: tuple[int, ...], quantization: ir.Quantization
    ) -> ir.Tensor:
        """Enter a quantized tensor by its ONNX shape without the batch."""
        tensor = ir.Tensor(name, to_chw(shape), quantization)
        self.tensors[name] = tensor
        self.set_shape(name, shape)
        return tensor

    def source(self, name: str) -> str:
        """The quantized tensor behind a name: itself, or what it is a real view of."""
        name = self.alias.get(name, name)
        name = self.real.get(name, name)
        name = self.alias.get(name, name)
        if name in self.late or self.alias.get(name) in self.late:
            raise Unsupported(f"it needs the elements that {self.late[name][0].name} reorders")
        if name not in self.tensors:
            raise Unsupported(f"its input {name} is not quantized")
        return name

    def entry(self, name: str, quantization: ir.Quantization) -> str:
        """A quantized input; the graph's own int8 inputs enter when they are first used."""
        if name in self.types and name not in self.tensors:
            wanted = np.uint8 if quantization.unsigned else np.int8
            if self.types[name] != wanted:
                raise Unsupported(f"its input {name} is {self.types[name]}, its zero point is not")
            self.add_tensor(name, self.shapes[name], quantization)
            self.entries.append(name)
        held = self.source(name)
        if self.tensors[held].quantization != quantization:
            raise Unsupported(f"it reads {name} with another quantization than it was made with")
        return held

    def make_alias(self, made: str, held: str, shape: tuple[int, ...]) -> None:
        """Let `made` be another name (and ONNX shape) of a tensor."""
        self.alias[made] = self.alias.get(held, held)
        self.set_shape(made, shape)

    def set_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Enter a tensor's ONNX shape, for its real view as well."""
        self.shapes[name] = shape
        self.shapes[name.removesuffix(QUANTIZED)] = shape

    def quantized_name(self, node: Node) -> str:
        """The quantized tensor a node makes: its output, or what its real output is a view of."""
        return self.quantized_output(node, node.outputs[0])

    def quantized_output(self, node: Node, made: str) -> str:
        """The same for one of several outputs."""
        if node.inputs[0] not in self.real:
            return made
        held = f"{made}{QUANTIZED}"
        self.real[made] = held
        return held

    def postpone_quantized(
        self, node: Node, held: str, made: str, shape: tuple[int, ...], attributes: dict[str, Any]
    ) -> None:
        """Keep a reordering for the CPU behind the NPU; a layer that needs it is refused."""
        operator = "Transpose" if node.operator == "Transpose" else "Reshape"
        self.late[made] = (node, CpuOp(operator, (held,), made, attributes))
        self.set_shape(made, shape)


def to_chw(shape: tuple[int, ...]) -> ir.Shape:
    """(C, H, W) of an ONNX shape without its batch: vectors are 1x1, sequences W = 1."""
    if len(shape) > 3:
        raise Unsupported(f"a tensor of {len(shape) + 1} dimensions")
    channels, height, width = (*shape, 1, 1, 1)[:3]
    return channels, height, width


def import_model(model: bytes) -> Imported:
    """Read an ONNX model.

    Raises:
        GraphError: no ONNX model, one with a cycle, or one without fixed shapes.
        Refused: nodes the NPU cannot run, all in one message.
    """
    proto = _parse(model)
    graph = proto.graph
    builder = Builder({t.name: numpy_helper.to_array(t) for t in graph.initializer})
    inputs = {}
    for value in graph.input:
        if value.name in builder.constants:
            continue
        shape, dtype = _described(value)
        builder.shapes[value.name], builder.types[value.name] = shape, dtype
        inputs[value.name] = (str(dtype), shape)
    problems = _walk(builder, [Node.of(node, i) for i, node in enumerate(graph.node)])
    outputs = tuple(value.name for value in graph.output)
    if problems:
        raise Refused(problems, HINT)
    return _finish(builder, inputs, outputs)


def _walk(builder: Builder, nodes: list[Node]) -> list[Problem]:
    from edgekit_fpga.compiler.operators import OPERATORS

    problems = []
    # tensors made by refused nodes: those that need them are not reported again
    broken: set[str] = set()
    for node in nodes:
        if broken.intersection(node.inputs):
            broken.update(node.outputs)
            continue
        handler: Callable[[Builder, Node], None] | None = OPERATORS.get(node.operator)
        try:
            if handler is None:
                raise Unsupported("no such operation on the NPU")
            handler(builder, node)
        except Unsupported as reason:
            problems.append(Problem(node.name, node.operator, str(reason)))
            broken.update(node.outputs)
    return problems


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
            operation = builder.late[real][1]
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
            held = builder.real[name]
            settle(held)
            held = builder.alias.get(held, held)
            while held in builder.late:
                held = builder.late[held][1].inputs[0]
                held = builder.alias.get(held, held)
            quantization = builder.tensors[held].quantization
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
    )


def stage_attributes(builder: Builder, node: Node) -> dict[str, Any]:
    """The attributes a CPU operator keeps: its axis or its shape."""
    if node.operator == "Softmax":
        return {"axis": int(node.attributes.get("axis", -1))}
    if node.operator in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        return {"shape": list(builder.shapes[node.outputs[0]])}
    if node.operator in ("QuantizeLinear", "DequantizeLinear"):
        zero = node.inputs[2] if len(node.inputs) > 2 else ""
        return quantization_json(builder.quantization(node.inputs[1], zero))
    if node.operator == "Transpose":
        return {"perm": [int(axis) for axis in node.attributes["perm"]]}
    return {}


def quantization_json(quantization: ir.Quantization) -> dict[str, Any]:
    """Scale (as the shortest decimal that reads back), zero point and type of the ONNX graph."""
    return {
        "scale": float(quantization.scale),
        "zero_point": quantization.graph_zero_point,
        "type": "uint8" if quantization.unsigned else "int8",
    }


def _parse(model: bytes) -> onnx.ModelProto:
    try:
        proto = onnx.load_model_from_string(model)
    except (DecodeError, ValueError) as error:
        raise GraphError("the file is no ONNX model", "give an .onnx file") from error
    if not proto.graph.node:
        raise GraphError("the file is no ONNX model: it has no graph", "give an .onnx file")
    known = {value.name for value in proto.graph.input} | {t.name for t in proto.graph.initializer}
    for index, node in enumerate(proto.graph.node):
        for name in node.input:
            if name and name not in known:
                raise GraphError(
                    f"{Node.of(node, index).name} ({node.op_type}) reads {name} before it is made: "
                    "the graph has a cycle or is not sorted",
                    "check it with onnx.checker",
                )
        known.update(node.output)
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise GraphError(
                f"initializer {tensor.name} lies in another file", "save the model as one file"
            )
    return proto


def _described(value: onnx.ValueInfoProto) -> tuple[tuple[int, ...], np.dtype[Any]]:
    kind = value.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else 0 for d in kind.shape.dim]
    if len(dims) < 2 or any(size < 1 for size in dims[1:]):
        raise GraphError(
            f"input {value.name} has the shape {dims}: a batch first, then fixed sizes are needed",
            "export the model with fixed sizes",
        )
    return tuple(dims[1:]), np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
