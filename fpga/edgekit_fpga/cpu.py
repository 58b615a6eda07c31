"""The CPU stages of a package: quantization at the ends and what follows it, in numpy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga.errors import PackageError

Array = NDArray[Any]


@dataclass(frozen=True)
class CpuOp:
    """One CPU operation: operator, inputs and output by tensor name, attributes as JSON values."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.operator not in STAGE_OPERATORS or len(self.inputs) != 1:
            raise PackageError(f"no CPU operation {self.operator!r} with {len(self.inputs)} inputs")


def run_stage(operations: Sequence[CpuOp], values: dict[str, Array]) -> None:
    """Carry out the operations on arrays with a batch in front; results join `values`."""
    for operation in operations:
        source = values[operation.inputs[0]]
        values[operation.output] = STAGE_OPERATORS[operation.operator](source, operation.attributes)


def quantize(real: Array, scale: float, zero_point: int, kind: str) -> Array:
    """ONNX QuantizeLinear: round half to even, add the zero point, saturate; float32 inside."""
    limits = np.iinfo(kind)
    scaled = np.rint(real.astype(np.float32) / np.float32(scale))
    limited: Array = np.clip(scaled + np.float32(zero_point), limits.min, limits.max)
    return limited.astype(kind)


def dequantize(stored: Array, scale: float, zero_point: int) -> Array:
    """ONNX DequantizeLinear: float32 (q - zero point) * scale."""
    real: Array = (stored.astype(np.int32) - zero_point).astype(np.float32) * np.float32(scale)
    return real


def _softmax(values: Array, attributes: Mapping[str, Any]) -> Array:
    shifted = np.exp(values - values.max(axis=attributes["axis"], keepdims=True))
    result: Array = shifted / shifted.sum(axis=attributes["axis"], keepdims=True)
    return result


def _reshape(values: Array, attributes: Mapping[str, Any]) -> Array:
    return values.reshape(len(values), *attributes["shape"])


STAGE_OPERATORS: dict[str, Callable[[Array, Mapping[str, Any]], Array]] = {
    "QuantizeLinear": lambda x, a: quantize(x, a["scale"], a["zero_point"], a["type"]),
    "DequantizeLinear": lambda x, a: dequantize(x, a["scale"], a["zero_point"]),
    "Softmax": _softmax,
    "Identity": lambda x, _: x,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Transpose": lambda x, a: np.ascontiguousarray(x.transpose(a["perm"])),
}
