"""Looking into ONNX graphs: constants, who makes a tensor, who takes it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError

from edgekit.errors import QuantizeError

Floats = npt.NDArray[np.float32]


def parse(model: bytes) -> onnx.ModelProto:
    """The graph, checked, every node with a name.

    Raises:
        QuantizeError: the bytes are no ONNX graph.
    """
    try:
        graph = onnx.load_model_from_string(model)
        onnx.checker.check_model(graph)
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise QuantizeError(f"not an ONNX graph: {' '.join(str(error).split())[:200]}") from error
    for position, node in enumerate(graph.graph.node):
        node.name = node.name or f"{node.op_type}_{position}"
    return graph


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The node's attributes as plain values."""
    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


class Wiring:
    """Constants, makers and takers of a graph's tensors, as they are when this is made."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.constants = {each.name: each for each in model.graph.initializer}
        self.maker = {name: node for node in model.graph.node for name in node.output}
        self.outputs = {value.name for value in model.graph.output}
        self._takers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._takers.setdefault(name, []).append(node)

    def takers(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes that take the tensor."""
        return self._takers.get(tensor, [])

    def only_taker(self, tensor: str) -> onnx.NodeProto | None:
        """The one node that takes the tensor, unless others do or the graph yields it."""
        takers = self.takers(tensor)
        return takers[0] if len(takers) == 1 and tensor not in self.outputs else None

    def array(self, name: str) -> npt.NDArray[np.generic]:
        """The values of a constant."""
        return np.asarray(onnx.numpy_helper.to_array(self.constants[name]))

    def replace(self, name: str, value: npt.NDArray[np.generic]) -> None:
        """Give a constant other values, in the model itself."""
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self.constants[name].data_type)
        new = onnx.numpy_helper.from_array(np.ascontiguousarray(value.astype(dtype)), name)
        self.constants[name].CopyFrom(new)

    def own_constant(self, node: onnx.NodeProto, position: int) -> bool:
        """Whether the node's input is a constant that no other node takes."""
        name = node.input[position] if position < len(node.input) else ""
        return name in self.constants and len(self.takers(name)) == 1


@dataclass(frozen=True)
class Layer:
    """A node with weights: Conv, or Gemm with constant weights, that nobody else has.

    Args:
        node: in the graph.
        wiring: of the graph.
    """

    node: onnx.NodeProto
    wiring: Wiring

    @property
    def weights(self) -> Floats:
        """Weights with the output channels first: [O, ...]."""
        values = self.wiring.array(self.node.input[1]).astype(np.float32)
        return values.T if self.transposed else values

    @property
    def bias(self) -> Floats | None:
        """The bias [O], or None."""
        if len(self.node.input) < 3 or not self.node.input[2]:
            return None
        return self.wiring.array(self.node.input[2]).astype(np.float32)

    @property
    def groups(self) -> int:
        """Groups of a convolution; 1 for Gemm."""
        return int(attributes(self.node).get("group", 1))

    def set_weights(self, weights: Floats) -> None:
        """Replace the weights, given with the output channels first."""
        self.wiring.replace(self.node.input[1], weights.T if self.transposed else weights)

    def set_bias(self, bias: Floats) -> None:
        """Replace the bias [O]; where there was none, add it."""
        if self.bias is not None:
            self.wiring.replace(self.node.input[2], bias)
            return
        name = f"{self.node.name}.bias"
        self.wiring.model.graph.initializer.append(
            onnx.numpy_helper.from_array(bias.astype(np.float32), name)
        )
        self.wiring.constants[name] = self.wiring.model.graph.initializer[-1]
        del self.node.input[2:]
        self.node.input.append(name)

    @property
    def transposed(self) -> bool:
        """Whether the graph keeps the weights with the output channels last."""
        return self.node.op_type == "Gemm" and not attributes(self.node).get("transB", 0)


def layers(wiring: Wiring) -> Iterator[Layer]:
    """The layers whose weights and bias are constants of their own, in the graph's order."""
    for node in wiring.model.graph.node:
        if node.op_type not in ("Conv", "Gemm") or not wiring.own_constant(node, 1):
            continue
        has_bias = len(node.input) > 2 and node.input[2]
        if has_bias and not wiring.own_constant(node, 2):
            continue
        values = attributes(node)
        if node.op_type == "Gemm" and (
            values.get("transA", 0) or values.get("alpha", 1.0) != 1 or values.get("beta", 1.0) != 1
        ):
            continue
        yield Layer(node, wiring)
