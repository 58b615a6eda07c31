"""The CPU stages of a package: quantization at the ends and what follows it, in numpy.

Every operator can say what it makes of a shape and a type, so that a package's stages are checked
before they run.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga.errors import PackageError

Array = NDArray[Any]
Attributes = Mapping[str, Any]
# bytes of an array (without its batch) that a stage may make
MOST_BYTES = 1 << 28


@dataclass(frozen=True)
class Kind:
    """What an array is, apart from its batch: shape and type."""

    shape: tuple[int, ...]
    type: str


@dataclass(frozen=True)
class CpuOp:
    """One CPU operation: operator, inputs and output by tensor name, attributes as JSON values."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: Attributes

    def __post_init__(self) -> None:
        if self.operator not in STAGE_OPERATORS or len(self.inputs) != 1:
            raise PackageError(f"no CPU operation {self.operator!r} with {len(self.inputs)} inputs")

    def kind(self, source: Kind) -> Kind:
        """What it makes of an array of some kind.

        Raises:
            PackageError: it cannot work on that, or its attributes are none.
        """
        try:
            made = STAGE_OPERATORS[self.operator].kind(source, self.attributes)
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise PackageError(
                f"CPU operation {self.operator} of {self.output}: {type(error).__name__} {error}"
            ) from error
        if math.prod(made.shape) * 8 > MOST_BYTES:
            raise PackageError(f"CPU operation {self.operator} makes an array of {made.shape}")
        return made


def run_stage(operations: Sequence[CpuOp], values: dict[str, Array]) -> None:
    """Carry out the operations on arrays with a batch in front; results join `values`."""
    for operation in operations:
        source = values[operation.inputs[0]]
        run = STAGE_OPERATORS[operation.operator].run
        values[operation.output] = run(source, operation.attributes)


def quantize(real: Array, scale: float, zero_point: int, kind: str) -> Array:
    """ONNX QuantizeLinear: round half to even, add the zero point, saturate; float32 inside."""
    limits = np.iinfo(kind)
    with np.errstate(over="ignore"):  # beyond float32 is far beyond what saturates
        scaled = np.rint(real.astype(np.float32) / np.float32(scale))
    limited: Array = np.clip(scaled + np.float32(zero_point), limits.min, limits.max)
    return limited.astype(kind)


def dequantize(stored: Array, scale: float, zero_point: int) -> Array:
    """ONNX DequantizeLinear: float32 (q - zero point) * scale."""
    with np.errstate(over="ignore"):
        real: Array = (stored.astype(np.int32) - zero_point).astype(np.float32) * np.float32(scale)
    return real


def average(stored: Array, attributes: Attributes) -> Array:
    """QLinearAveragePool as ONNX Runtime computes it, in every bit.

    The real values of a window are added in float32 one by one, row by row; the sum is divided by
    their number and by the scale, and the zero point is added before it is rounded.
    """
    a = attributes
    real = dequantize(stored, a["in_scale"], a["in_zero_point"])
    size = _window_counts(stored.shape[2:], a)
    begin, kernel, stride, out = a["pads"], a["kernel"], a["stride"], a["out"]
    reach = [(o - 1) * s + k for o, s, k in zip(out, stride, kernel, strict=True)]
    padding = [
        (0, 0),
        (0, 0),
        *((b, max(r - b - n, 0)) for b, r, n in zip(begin, reach, stored.shape[2:], strict=True)),
    ]
    padded = np.pad(real, padding)
    total = np.zeros((*stored.shape[:2], *out), np.float32)
    for tap in itertools.product(*(range(k) for k in kernel)):
        cut = [slice(t, t + (o - 1) * s + 1, s) for t, o, s in zip(tap, out, stride, strict=True)]
        total += padded[(slice(None), slice(None), *cut)]
    scaled = total / size / np.float32(a["scale"]) + np.float32(a["zero_point"])
    limits = np.iinfo(a["type"])
    limited: Array = np.clip(np.rint(scaled), limits.min, limits.max)
    return limited.astype(a["type"])


def _window_counts(size: tuple[int, ...], attributes: Attributes) -> Array:
    """How many elements each window averages: all of it, or what lies inside the plane."""
    a = attributes
    counts = np.ones((), np.float32)
    for n, kernel, stride, pad, out in zip(
        size, a["kernel"], a["stride"], a["pads"], a["out"], strict=True
    ):
        first = np.arange(out) * stride - pad
        inside = np.minimum(first + kernel, n) - np.maximum(first, 0)
        each = np.full(out, kernel) if a["count_include_pad"] else inside
        counts = counts[..., None] * each.astype(np.float32)
    return counts


def _softmax(values: Array, attributes: Attributes) -> Array:
    shifted = np.exp(values - values.max(axis=attributes["axis"], keepdims=True))
    result: Array = shifted / shifted.sum(axis=attributes["axis"], keepdims=True)
    return result


def _reshape(values: Array, attributes: Attributes) -> Array:
    return values.reshape(len(values), *attributes["shape"])


# --- what each makes of a kind ----------------------------------------------------------------


def _quantized(source: Kind, attributes: Attributes, prefix: str = "") -> Kind:
    """Check scale, zero point and type; the quantized kind."""
    kind = attributes["type"] if not prefix else source.type
    if kind not in ("int8", "uint8"):
        raise ValueError(f"of type {kind!r}")
    scale, zero = attributes[f"{prefix}scale"], attributes[f"{prefix}zero_point"]
    if type(scale) is not float or not math.isfinite(scale) or np.float32(scale) <= 0:
        raise ValueError(f"by a scale of {scale!r}")
    if type(zero) is not int or not np.iinfo(kind).min <= zero <= np.iinfo(kind).max:
        raise ValueError(f"with a zero point of {zero!r}")
    return Kind(source.shape, kind)


def _dequantized(source: Kind, attributes: Attributes) -> Kind:
    if source.type != attributes["type"]:
        raise ValueError(f"of {source.type}")
    return Kind(_quantized(source, attributes).shape, "float32")


def _real(source: Kind) -> Kind:
    if source.type != "float32":
        raise ValueError(f"of {source.type}")
    return source


def _softened(source: Kind, attributes: Attributes) -> Kind:
    axis, rank = attributes["axis"], len(source.shape) + 1
    if type(axis) is not int or not -rank <= axis < rank or axis % rank == 0:
        raise ValueError(f"along axis {axis!r}")
    return _real(source)


def _reshaped(source: Kind, attributes: Attributes) -> Kind:
    shape = _integers(attributes["shape"], 1)
    if math.prod(shape) != math.prod(source.shape):
        raise ValueError(f"from {source.shape} to {shape}")
    return Kind(shape, source.type)


def _transposed(source: Kind, attributes: Attributes) -> Kind:
    order = _integers(attributes["perm"], 0)
    if order[:1] != (0,) or sorted(order) != list(range(len(source.shape) + 1)):
        raise ValueError(f"of {source.shape} by {order}")
    return Kind(tuple(source.shape[axis - 1] for axis in order[1:]), source.type)


def _averaged(source: Kind, attributes: Attributes) -> Kind:
    a = attributes
    _quantized(source, a, "in_")
    made = _quantized(source, a)
    kernel, stride, out = (_integers(a[key], 1) for key in ("kernel", "stride", "out"))
    pads = _integers(a["pads"], 0)
    channels, *plane = source.shape
    if type(a["count_include_pad"]) is not bool or math.prod(kernel) > math.prod(plane):
        raise ValueError(f"over {kernel} of {plane}")
    for n, k, s, pad, o in zip(plane, kernel, stride, pads, out, strict=True):
        # every window holds at least one element
        if pad >= k or (o - 1) * s - pad >= n:
            raise ValueError(f"over {kernel} of {plane}")
    return Kind((channels, *out), made.type)


def _integers(values: Any, least: int) -> tuple[int, ...]:
    if not isinstance(values, list) or any(type(v) is not int or v < least for v in values):
        raise ValueError(f"of {values!r}")
    return tuple(values)


@dataclass(frozen=True)
class StageOperator:
    """How an operator runs on an array with its batch, and what it makes of a kind without."""

    run: Callable[[Array, Attributes], Array]
    kind: Callable[[Kind, Attributes], Kind]


_RESHAPE = StageOperator(_reshape, _reshaped)

STAGE_OPERATORS: dict[str, StageOperator] = {
    "QuantizeLinear": StageOperator(
        lambda x, a: quantize(x, a["scale"], a["zero_point"], a["type"]),
        lambda source, a: _quantized(_real(source), a),
    ),
    "DequantizeLinear": StageOperator(
        lambda x, a: dequantize(x, a["scale"], a["zero_point"]), _dequantized
    ),
    "QLinearAveragePool": StageOperator(average, _averaged),
    "Softmax": StageOperator(_softmax, _softened),
    "Identity": StageOperator(lambda x, _: x, lambda source, _: source),
    "Reshape": _RESHAPE,
    "Flatten": _RESHAPE,
    "Squeeze": _RESHAPE,
    "Unsqueeze": _RESHAPE,
    "Transpose": StageOperator(
        lambda x, a: np.ascontiguousarray(x.transpose(a["perm"])), _transposed
    ),
}
