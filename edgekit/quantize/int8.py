"""The int8 graph, in QOperator form: every compute operator takes and yields integers.

Weights are int8, symmetric, with a scale for each output channel; activations are int8 with one
scale and zero point for each tensor, from the range seen in calibration; biases are int32 with the
scale of their products. The operators are ONNX's QLinearConv and ONNX Runtime's QLinearAdd, QGemm,
QLinearGlobalAveragePool and their kin (domain com.microsoft), so that ONNX Runtime computes the
integers themselves; in QDQ form it may fall back to float kernels.
"""

import logging

import onnx
from google.protobuf.message import DecodeError

from edgekit.errors import QuantizeError
from edgekit.quantize.calibration import Ranges, observe
from edgekit.quantize.runtime import Tensors, quiet, session

_log = logging.getLogger(__name__)

# Ends of the integer part of a graph.
_TO_INTEGER = {"QuantizeLinear"}
_TO_FLOAT = {"DequantizeLinear"}


def quantize(model: bytes, calibration: Tensors) -> bytes:
    """The graph in int8, with the float graph's inputs and outputs.

    Args:
        model: a float ONNX graph, its batch normalisations folded.
        calibration: for each graph input an array [N, ...] of real inputs, some hundreds.

    Returns:
        A graph that quantizes its inputs, computes in integers and dequantizes its outputs.

    Raises:
        QuantizeError: the calibration does not fit, or an operator has no integer form; names it.
    """
    graph = _parse(model)
    ranges = observe(graph, calibration)
    quantized = _lower(graph, ranges)
    left = float_nodes(quantized)
    if left:
        named = ", ".join(f"{node.name or '(unnamed)'} ({node.op_type})" for node in left)
        raise QuantizeError(
            f"no integer form for {named}",
            hint="replace these operators in the model, or deploy it in float",
        )
    quantized.producer_name = "edgekit"
    quantized.producer_version = ""
    data = bytes(quantized.SerializeToString(deterministic=True))
    session(data)
    return data


def float_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that compute in float: all that take a float activation but QuantizeLinear."""
    floating = {
        value.name
        for value in model.graph.input
        if value.type.tensor_type.elem_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    }
    found = []
    for node in model.graph.node:
        if node.op_type in _TO_INTEGER:
            continue
        if node.op_type in _TO_FLOAT:
            floating.update(node.output)
        elif not floating.isdisjoint(node.input):
            found.append(node)
            floating.update(node.output)
    return found


def _parse(model: bytes) -> onnx.ModelProto:
    try:
        graph = onnx.load_model_from_string(model)
        onnx.checker.check_model(graph)
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise QuantizeError(f"not an ONNX graph: {' '.join(str(error).split())[:200]}") from error
    if any(node.op_type in _TO_INTEGER | {"QLinearConv"} for node in graph.graph.node):
        raise QuantizeError("the model is quantized already", hint="start from the float version")
    # ONNX Runtime's quantizer names what it adds after the nodes it replaces
    for position, node in enumerate(graph.graph.node):
        node.name = node.name or f"{node.op_type}_{position}"
    return graph


def _lower(graph: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    """The graph in QOperator form, by ONNX Runtime's quantizer."""
    with quiet():
        import numpy as np
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
        from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
        from onnxruntime.quantization.quant_utils import QuantizationMode
        from onnxruntime.quantization.registry import QLinearOpsRegistry

        observed = TensorsData(
            CalibrationMethod.MinMax,
            {
                name: TensorData(lowest=np.float32(low), highest=np.float32(high))
                for name, (low, high) in ranges.items()
            },
        )
        quantizer = ONNXQuantizer(
            graph,
            per_channel=True,
            reduce_range=False,
            mode=QuantizationMode.QLinearOps,
            static=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8,
            tensors_range=observed,
            nodes_to_quantize=[],
            nodes_to_exclude=[],
            op_types_to_quantize=list(QLinearOpsRegistry),
            extra_options={},
        )
        quantizer.quantize_model()
        lowered: onnx.ModelProto = quantizer.model.model
        return lowered
