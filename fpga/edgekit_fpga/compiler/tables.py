"""256-entry tables: a float function of one quantized tensor, evaluated by ONNX Runtime itself."""

from collections.abc import Mapping, Sequence

import numpy as np

from edgekit_fpga.arithmetic import Int8
from edgekit_fpga.compiler.builder import Node, Unsupported
from edgekit_fpga.compiler.ir import Quantization
from edgekit_fpga.cpu import Array, dequantize, quantize

ELEMENTWISE = frozenset(
    {
        "Abs",
        "Add",
        "Clip",
        "Div",
        "Elu",
        "Erf",
        "Exp",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Log",
        "Max",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "Pow",
        "Reciprocal",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Sub",
        "Tanh",
        "ThresholdedRelu",
    }
)
_STORED = np.arange(256, dtype=np.uint8).view(np.int8)


def evaluate(
    nodes: Sequence[Node],
    constants: Mapping[str, Array],
    source: str,
    made: str,
    incoming: Quantization,
    outgoing: Quantization,
) -> Int8:
    """The stored result for every stored byte, indexed by the byte as unsigned.

    Args:
        nodes: float nodes in order, from `source` to `made`.
        constants: values of their other inputs.
        source: the real view they start from.
        made: the float tensor that is quantized.
        incoming: quantization of the source.
        outgoing: quantization of the result.
    """
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    used = {name for node in nodes for name in node.inputs if name in constants}
    graph = helper.make_graph(
        [
            helper.make_node(
                node.operator,
                list(node.inputs),
                list(node.outputs),
                name=node.name,
                **node.attributes,
            )
            for node in nodes
        ],
        "table",
        [helper.make_tensor_value_info(source, TensorProto.FLOAT, [1, 256])],
        [helper.make_tensor_value_info(made, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(constants[name]), name) for name in sorted(used)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    real = _real(incoming).reshape(1, 256)
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        (values,) = session.run(None, {source: real})
    except Exception as error:
        # ONNX Runtime raises a class of its own for each of its status codes
        said = str(error).partition("\n")[0]
        raise Unsupported(f"ONNX Runtime cannot evaluate it: {said}") from error
    if np.asarray(values).size != 256:
        raise Unsupported("it does not work element by element")
    return _stored(np.asarray(values).reshape(256), outgoing)


def requantize_table(incoming: Quantization, outgoing: Quantization) -> Int8:
    """The table that moves a tensor from one quantization to another."""
    return _stored(_real(incoming), outgoing)


def _real(quantization: Quantization) -> Array:
    return dequantize(_STORED, float(quantization.scale), quantization.zero_point)


def _stored(real: Array, quantization: Quantization) -> Int8:
    kind = "uint8" if quantization.unsigned else "int8"
    value = quantize(real, float(quantization.scale), quantization.graph_zero_point, kind)
    return (value.astype(np.int16) - (128 if quantization.unsigned else 0)).astype(np.int8)
