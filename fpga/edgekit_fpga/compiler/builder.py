"""What the importer knows while it walks a graph; operators add tensors and layers to it."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgekit_fpga.compiler import ir
from edgekit_fpga.cpu import CpuOp
from edgekit_fpga.errors import FpgaError

Array = NDArray[Any]
# what the quantized tensor behind a float node's result is called
QUANTIZED = "/quantized"
# of a tensor, a constant's operands, a window: far more than any NPU holds
MOST_ELEMENTS = 1 << 26


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
class Late:
    """A quantized tensor that only the CPU behind the NPU makes, and why no layer can read it."""

    operation: CpuOp
    quantization: ir.Quantization
    reason: str


@dataclass
class Builder:
    """What is known while the graph is walked; operators add tensors and layers to it.

    `integer_averages`: averages that float32 rounds by chance are rounded in integers; `integers`
    names the nodes this happened to.
    """

    constants: dict[str, Array]
    integer_averages: bool = False
    opset: int = 13
    integers: list[str] = field(default_factory=list)
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
    late: dict[str, Late] = field(default_factory=dict)

    def constant(self, name: str, what: str) -> Array:
        """The value of an input that must be known at compile time."""
        if name not in self.constants:
            raise Unsupported(f"its {what} is not a constant")
        return self.constants[name]

    def quantization(self, scale: str, zero_point: str, *, signed: bool = False) -> ir.Quantization:
        """Per-tensor quantization from the names of its constants; `signed` where none says it."""
        values = self.constant(scale, "scale")
        absent = np.zeros((), np.int8 if signed else np.uint8)
        zero = self.constant(zero_point, "zero point") if zero_point else absent
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
        if not all(size > 0 for size in shape) or math.prod(shape) > MOST_ELEMENTS:
            raise Unsupported(f"a tensor of {' x '.join(map(str, shape))} elements")
        tensor = ir.Tensor(name, to_chw(shape), quantization)
        self.tensors[name] = tensor
        self.set_shape(name, shape)
        return tensor

    def source(self, name: str) -> str:
        """The quantized tensor behind a name: itself, or what it is a real view of."""
        name = self.held(name)
        if name in self.late:
            raise Unsupported(self.late[name].reason)
        if name not in self.tensors:
            raise Unsupported(f"its input {name} is not quantized")
        return name

    def held(self, name: str) -> str:
        """What a name, or the quantized tensor it is a real view of, is another name of."""
        name = self.alias.get(name, name)
        name = self.real.get(name, name)
        return self.alias.get(name, name)

    def quantization_of(self, name: str) -> ir.Quantization:
        """The quantization of a tensor, be it made by the NPU or behind it."""
        name = self.held(name)
        if name in self.late:
            return self.late[name].quantization
        return self.tensors[name].quantization

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

    def make_late(
        self,
        made: str,
        shape: tuple[int, ...],
        operation: CpuOp,
        quantization: ir.Quantization,
        reason: str,
    ) -> None:
        """Keep an operation for the CPU behind the NPU; a layer that needs it is refused."""
        self.late[made] = Late(operation, quantization, reason)
        self.set_shape(made, shape)

    def reorder_late(
        self, node: Node, held: str, made: str, shape: tuple[int, ...], attributes: dict[str, Any]
    ) -> None:
        """The same for a Transpose or Reshape of quantized values."""
        operator = "Transpose" if node.operator == "Transpose" else "Reshape"
        source = self.late.get(self.held(held))
        reason = source.reason if source else f"it needs the elements that {node.name} reorders"
        operation = CpuOp(operator, (held,), made, attributes)
        self.make_late(made, shape, operation, self.quantization_of(held), reason)


def to_chw(shape: tuple[int, ...]) -> ir.Shape:
    """(C, H, W) of an ONNX shape without its batch: vectors are 1x1, sequences W = 1."""
    if len(shape) > 3:
        raise Unsupported(f"a tensor of {len(shape) + 1} dimensions")
    channels, height, width = (*shape, 1, 1, 1)[:3]
    return channels, height, width


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
