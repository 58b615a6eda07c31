"""The int8 graph, in QOperator form: every compute operator takes and yields integers.

Weights are int8, symmetric, with a scale for each output channel; activations are int8 with one
scale and zero point for each tensor, from the range seen in calibration; biases are int32 with the
scale of their products. The operators are ONNX's QLinearConv and ONNX Runtime's QLinearAdd, QGemm,
QLinearGlobalAveragePool and their kin (domain com.microsoft), so that ONNX Runtime computes the
integers themselves; in QDQ form it may fall back to float kernels.
"""

import logging
from dataclasses import dataclass
from typing import Any

import onnx

from edgekit.errors import QuantizeError
from edgekit.quantize.bias import correct_bias
from edgekit.quantize.calibration import METHODS, Ranges, observe
from edgekit.quantize.equalization import equalize
from edgekit.quantize.fold import fold_batch_norm
from edgekit.quantize.graph import Wiring, parse
from edgekit.quantize.runtime import Tensors, quiet, session
from edgekit.quantize.scales import power_of_two_overrides

_log = logging.getLogger(__name__)

# Ends of the integer part of a graph.
_TO_INTEGER = {"QuantizeLinear"}
_TO_FLOAT = {"DequantizeLinear"}


@dataclass(frozen=True)
class Recipe:
    """How to quantize; the defaults suit networks that were trained with some care.

    Args:
        method: what range an activation gets: `minmax` all it took in calibration; `percentile`
            without the rarest values; `entropy` the range whose int8 histogram tells most.
        percentile: share in percent of the values that `percentile` keeps.
        equalize: bring the channels of a tensor to one range first (cross-layer equalization), for
            networks whose channels differ much, as MobileNets' do.
        correct_bias: take the mean error of rounded weights out of the biases.
        power_of_two: only scales that are powers of two, for hardware that shifts.
    """

    method: str = "minmax"
    percentile: float = 99.99
    equalize: bool = False
    correct_bias: bool = False
    power_of_two: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise QuantizeError(f"no calibration method {self.method}: {', '.join(METHODS)}")
        if not 50 < self.percentile <= 100:
            raise QuantizeError(f"the percentile is {self.percentile}, not above 50 and up to 100")

    @property
    def summary(self) -> str:
        """The recipe in a few words, as `percentile 99.99, equalized`."""
        chosen = [
            f"{self.method} {self.percentile:g}" if self.method == "percentile" else self.method
        ]
        chosen += ["equalized"] * self.equalize
        chosen += ["biases corrected"] * self.correct_bias
        chosen += ["powers of two"] * self.power_of_two
        return ", ".join(chosen)


def quantize(model: bytes, calibration: Tensors, recipe: Recipe | None = None) -> bytes:
    """The graph in int8, with the float graph's inputs and outputs.

    Args:
        model: a float ONNX graph.
        calibration: for each graph input an array [N, ...] of real inputs, some hundreds.
        recipe: how; `Recipe()` by default.

    Returns:
        A graph that quantizes its inputs, computes in integers and dequantizes its outputs.

    Raises:
        QuantizeError: the calibration does not fit, or an operator has no integer form; names it.
    """
    recipe = recipe or Recipe()
    graph = parse(model)
    if any(node.op_type in _TO_INTEGER | {"QLinearConv"} for node in graph.graph.node):
        raise QuantizeError("the model is quantized already", hint="start from the float version")
    prepare(graph, recipe)
    ranges = observe(graph, calibration, method=recipe.method, percentile=recipe.percentile)
    if recipe.correct_bias:
        corrected = correct_bias(graph, calibration, power_of_two=recipe.power_of_two)
        _log.info("corrected the biases of %d layers", corrected)
    options = {}
    if recipe.power_of_two:
        overrides = power_of_two_overrides(graph, _clipped(graph, ranges))
        options["TensorQuantOverrides"] = overrides
    quantized = _lower(graph, ranges, options)
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


def prepare(graph: onnx.ModelProto, recipe: Recipe) -> None:
    """Bring a float graph, in place, to the form whose tensors the int8 graph approximates."""
    _log.info("folded %d batch normalisations", fold_batch_norm(graph))
    if recipe.equalize:
        _log.info("equalized %d pairs of layers", equalize(graph))


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


def _clipped(graph: onnx.ModelProto, ranges: Ranges) -> Ranges:
    """The ranges with what comes before a ReLU or Clip given the range behind it.

    The quantizer leaves these operators out and lets int8's own limits do their work.
    """
    wiring = Wiring(graph)
    clipped = dict(ranges)
    for node in graph.graph.node:
        if node.op_type in ("Relu", "Clip") and wiring.only_taker(node.input[0]) is not None:
            clipped[node.input[0]] = ranges[node.output[0]]
    return clipped


def _lower(graph: onnx.ModelProto, ranges: Ranges, options: dict[str, Any]) -> onnx.ModelProto:
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
            extra_options=options,
        )
        quantizer.quantize_model()
        lowered: onnx.ModelProto = quantizer.model.model
        return lowered
