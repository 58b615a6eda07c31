"""Nodes whose result is known while the graph is read: exporters compute shapes in the graph."""

import math
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from edgekit_fpga.compiler.builder import MOST_ELEMENTS, Array, Builder, Node, Unsupported

# what exporters make shapes of; none of them makes much of little but by broadcasting
FOLDED = frozenset(
    {
        *("Abs", "Add", "Cast", "Ceil", "Concat", "Div", "Equal", "Floor", "Gather", "Identity"),
        *("Max", "Min", "Mod", "Mul", "Neg", "Pow", "ReduceProd", "Reshape", "Slice", "Sqrt"),
        *("Squeeze", "Sub", "Transpose", "Unsqueeze", "Where"),
    }
)


def fold(b: Builder, node: Node) -> bool:
    """Enter a node's result as a constant, where all it takes is known; whether it was."""
    if node.operator == "Constant":
        b.constants[node.outputs[0]] = _value(node)
    elif node.operator == "Shape" and node.inputs[0] in b.shapes:
        # of one element of a batch
        sizes = np.array([1, *b.shapes[node.inputs[0]]], np.int64)
        start, end = node.attributes.get("start", 0), node.attributes.get("end")
        b.constants[node.outputs[0]] = sizes[start:end]
    elif node.operator in FOLDED and node.inputs and _known(b, node):
        b.constants[node.outputs[0]] = _evaluated(b, node)
    else:
        return False
    return True


def _known(b: Builder, node: Node) -> bool:
    # dequantized weights stay what they are: their integers are needed
    return all(not name or (name in b.constants and name not in b.weights) for name in node.inputs)


def _value(node: Node) -> Array:
    attributes = node.attributes
    if isinstance(attributes.get("value"), onnx.TensorProto):
        return array_of(attributes["value"])
    for name, kind in (("float", np.float32), ("int", np.int64)):
        for form in (f"value_{name}", f"value_{name}s"):
            if form in attributes:
                return np.asarray(attributes[form]).astype(kind)
    raise Unsupported("a constant that is no tensor")


def _evaluated(b: Builder, node: Node) -> Array:
    feeds = {name: b.constants[name] for name in node.inputs if name}
    if math.prod(max(value.size, 1) for value in feeds.values()) > MOST_ELEMENTS:
        raise Unsupported("its operands are too large to be computed in advance")
    proto = onnx.helper.make_node(
        node.operator, list(node.inputs), list(node.outputs), **node.attributes
    )
    made: Any = ReferenceEvaluator(proto, opsets={"": b.opset}).run(None, feeds)
    return np.asarray(made[0])


def array_of(tensor: onnx.TensorProto) -> Array:
    """The value of a constant.

    Raises:
        Unsupported: it lies in another file, or its data do not fit its shape.
    """
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise Unsupported(f"constant {tensor.name} lies in another file; save the model as one")
    if any(size < 0 for size in tensor.dims) or math.prod(tensor.dims) > 1 << 30:
        raise Unsupported(f"constant {tensor.name} has the shape {list(tensor.dims)}")
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise Unsupported(f"constant {tensor.name} is damaged: {error}") from error
