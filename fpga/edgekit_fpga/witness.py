"""What ONNX Runtime makes of a model: the witness a package is held against."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga.errors import GraphError, PackageError
from edgekit_fpga.package import Package

if TYPE_CHECKING:
    import onnx

Array = NDArray[Any]


def witness(
    package: Package, model: bytes, inputs: Mapping[str, Array], names: list[str]
) -> dict[str, Array]:
    """What ONNX Runtime's integer operators give for those of `names` that the model has.

    Raises:
        PackageError: the package was not made from this model.
        GraphError: ONNX Runtime refuses the model.
    """
    if package.manifest["model"] != "sha256:" + hashlib.sha256(model).hexdigest():
        raise PackageError("the package was made from another model", "compile this one")
    import onnx
    import onnxruntime

    proto = onnx.load_model_from_string(model)
    with_integer_averages(proto, package)
    made = {name for node in proto.graph.node for name in node.output}
    known = {value.name for value in proto.graph.output}
    wanted = [name for name in names if name in made]
    proto.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in wanted if name not in known
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    if any(tensor["type"] == "uint8" for tensor in package.manifest["tensors"].values()):
        # without VNNI, uint8 activations by int8 weights saturate in 16 bits; this avoids it, but
        # leaves int8 graphs without a QGemm kernel
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        # some models are exported for a batch of one only
        single = any(entry.shape[0] == 1 for entry in session.get_inputs())
        batch = len(next(iter(inputs.values())))
        size = 1 if single else batch
        runs = [
            session.run(wanted, {name: v[i : i + size] for name, v in inputs.items()})
            for i in range(0, batch, size)
        ]
    except Exception as error:
        # ONNX Runtime raises a class of its own for each of its status codes
        raise GraphError(f"ONNX Runtime cannot run the model: {error}") from error
    return {
        name: np.concatenate([made[index] for made in runs]) for index, name in enumerate(wanted)
    }


def with_integer_averages(proto: "onnx.ModelProto", package: Package) -> None:
    """Let the model say in integers what the package rounds in integers.

    Each AveragePool that the manifest names becomes the QLinearConv with weights of one and a
    weight scale of one over their number, in the QOperator form or between its QDQ nodes.
    """
    wanted = set(package.manifest["integer_averages"])
    nodes = list(proto.graph.node)
    maker = {name: node for node in nodes for name in node.output}
    reader = {name: node for node in nodes for name in node.input}
    for index, node in enumerate(nodes):
        if (node.name or f"{node.op_type}_{index}") not in wanted:
            continue
        if node.op_type == "AveragePool":
            before, after = maker[node.input[0]], reader[node.output[0]]
            ends = [*before.input[:3], *after.input[1:3]]
            place, made = after, after.output[0]
        else:
            ends, place, made = list(node.input), node, node.output[0]
        channels = package.manifest["tensors"][made]["shape"][0]
        convolution = _average_as_convolution(proto.graph, node, ends, made, channels)
        proto.graph.node.insert(list(proto.graph.node).index(place), convolution)
        for replaced in {id(node): node, id(place): place}.values():
            proto.graph.node.remove(replaced)


def _average_as_convolution(
    graph: "onnx.GraphProto", node: "onnx.NodeProto", ends: list[str], made: str, channels: int
) -> "onnx.NodeProto":
    """`ends`: input, its scale and zero point, scale and zero point of the result."""
    from onnx import helper, numpy_helper

    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    window = {
        name: attributes[name]
        for name in ("kernel_shape", "strides", "pads", "auto_pad")
        if name in attributes
    }
    kernel = window["kernel_shape"]
    weights = {
        "weights": np.ones((channels, 1, *kernel), np.int8),
        "scale": np.float32(1) / np.float32(np.prod(kernel)),
        "zero": np.int8(0),
    }
    names = [f"{made}/average/{name}" for name in weights]
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name)
        for name, value in zip(names, weights.values(), strict=True)
    )
    inputs = [*ends[:3], *names, *ends[3:]]
    return helper.make_node("QLinearConv", inputs, [made], group=channels, **window)
