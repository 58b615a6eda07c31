"""Where int8 loses precision: the error of every tensor, layer by layer."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import onnx

from edgekit.quantize.calibration import batches
from edgekit.quantize.graph import Wiring, parse
from edgekit.quantize.int8 import Recipe, prepare
from edgekit.quantize.runtime import Tensors, run, session

_SUFFIX = "_quantized"  # of ONNX Runtime's quantizer
_PASSING = {"MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity"}
_CLIPPING = {"Relu", "Clip"}  # the quantizer makes them part of the layer before
_REAL = "edgekit.real."


@dataclass(frozen=True)
class LayerError:
    """How far a tensor of the int8 graph is from the float graph's.

    Args:
        tensor: its name in the float graph.
        operator: that makes it in the int8 graph.
        scale: the value of one step of int8.
        sqnr: power of the signal over power of the error, in dB; infinite where there is no error.
        largest: the largest error, in steps.
        saturated: the share of values, 0 to 1, that are beyond int8's range and cut off.
    """

    tensor: str
    operator: str
    scale: float
    sqnr: float
    largest: float
    saturated: float

    def as_dict(self) -> dict[str, Any]:
        """The error as plain data, for JSON; an infinite ratio is None."""
        return {**asdict(self), "sqnr": self.sqnr if math.isfinite(self.sqnr) else None}


def layer_errors(
    floating: bytes, int8: bytes, inputs: Tensors, recipe: Recipe | None = None
) -> list[LayerError]:
    """The error of each int8 tensor, in the order in which they are computed.

    Errors add up from layer to layer: what counts is where the ratio falls.

    Args:
        floating: the float graph.
        int8: the graph `quantize` made of it.
        inputs: for each graph input an array [N, ...].
        recipe: the one `quantize` was given: equalized tensors are compared with equalized ones.
    """
    reference = parse(floating)
    prepare(reference, recipe or Recipe())
    integers = _integer_tensors(onnx.load_model_from_string(int8))
    twins = _float_twins(reference, set(integers))
    watched_int8 = _watch_integers(onnx.load_model_from_string(int8), integers)
    watched_float = _watch(reference, sorted(set(twins.values())))
    sums = {name: np.zeros(3) for name in twins}  # signal, error, saturated
    largest = dict.fromkeys(twins, 0.0)
    counts = dict.fromkeys(twins, 0)
    for batch in batches(inputs):
        real = {**batch, **run(watched_float, batch)}
        quantized = run(watched_int8, batch)
        for name, twin in twins.items():
            wanted = real[twin].astype(np.float64)
            found = quantized[_REAL + name].astype(np.float64)
            error = np.abs(found - wanted)
            at_an_end = (found == integers[name].low) | (found == integers[name].high)
            sums[name] += (
                np.square(wanted).sum(),
                np.square(error).sum(),
                np.count_nonzero(at_an_end & (error > integers[name].scale)),
            )
            largest[name] = max(largest[name], float(error.max()))
            counts[name] += error.size
    return [
        LayerError(
            tensor=twins[name],
            operator=integers[name].operator,
            scale=integers[name].scale,
            sqnr=_decibel(sums[name][0], sums[name][1]),
            largest=largest[name] / integers[name].scale,
            saturated=float(sums[name][2] / counts[name]),
        )
        for name in integers
        if name in twins
    ]


@dataclass(frozen=True)
class _Integer:
    operator: str
    scale_name: str
    zero_name: str
    scale: float
    zero: int

    @property
    def low(self) -> np.float32:
        """The least value int8 has here, in float32 as DequantizeLinear computes it."""
        return np.float32(-128 - self.zero) * np.float32(self.scale)

    @property
    def high(self) -> np.float32:
        """The greatest."""
        return np.float32(127 - self.zero) * np.float32(self.scale)


def _integer_tensors(model: onnx.ModelProto) -> dict[str, _Integer]:
    """The int8 activations by the name their float twin has, in the order they are computed."""
    wiring = Wiring(model)
    found: dict[str, _Integer] = {}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" or not node.output[0].endswith(_SUFFIX):
            continue
        name = node.output[0].removesuffix(_SUFFIX)
        if node.op_type in _PASSING:
            source = found.get(node.input[0].removesuffix(_SUFFIX))
            if source is not None:
                found[name] = replace(source, operator=node.op_type)
        elif f"{name}_scale" in wiring.constants:
            scale, zero = f"{name}_scale", f"{name}_zero_point"
            found[name] = _Integer(
                node.op_type,
                scale,
                zero,
                float(wiring.array(scale).item()),
                int(wiring.array(zero).item()),
            )
    return found


def _float_twins(model: onnx.ModelProto, names: set[str]) -> dict[str, str]:
    """For each int8 tensor the float tensor with its values: behind a ReLU that it includes."""
    wiring = Wiring(model)
    inputs = {value.name for value in model.graph.input}
    twins = {}
    for name in names:
        if name not in wiring.maker and name not in inputs:
            continue
        twin = name
        after = wiring.only_taker(twin)
        while after is not None and after.op_type in _CLIPPING and after.output[0] not in names:
            twin = after.output[0]
            after = wiring.only_taker(twin)
        twins[name] = twin
    return twins


def _watch(model: onnx.ModelProto, names: list[str]) -> Any:
    inputs = {value.name for value in model.graph.input}
    del model.graph.output[:]
    model.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in names if name not in inputs
    )
    return session(model.SerializeToString(), optimize=False)


def _watch_integers(model: onnx.ModelProto, integers: dict[str, _Integer]) -> Any:
    for name, integer in integers.items():
        model.graph.node.append(
            onnx.helper.make_node(
                "DequantizeLinear",
                [name + _SUFFIX, integer.scale_name, integer.zero_name],
                [_REAL + name],
            )
        )
    return _watch(model, [_REAL + name for name in integers])


def _decibel(signal: float, error: float) -> float:
    if not error:
        return math.inf
    return 10 * math.log10(signal / error) if signal else -math.inf
