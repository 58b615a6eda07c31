"""Tensors of the Open Inference Protocol V2, checked and turned into numpy arrays and back.

The protocol: https://github.com/kserve/open-inference-protocol, "REST API", version 2. `data` is
row-major, flat or nested; both are read, flat is written.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit_runtime.errors import ModelError, RequestError

Array = NDArray[Any]

# ONNX type -> datatype of the protocol, dtype of numpy, kinds of JSON values that fit without loss
# of meaning (numpy's letters: b bool, i u integer, f float, U text)
TYPES = {
    "tensor(bool)": ("BOOL", "bool", "b"),
    "tensor(uint8)": ("UINT8", "uint8", "iu"),
    "tensor(uint16)": ("UINT16", "uint16", "iu"),
    "tensor(uint32)": ("UINT32", "uint32", "iu"),
    "tensor(uint64)": ("UINT64", "uint64", "iu"),
    "tensor(int8)": ("INT8", "int8", "iu"),
    "tensor(int16)": ("INT16", "int16", "iu"),
    "tensor(int32)": ("INT32", "int32", "iu"),
    "tensor(int64)": ("INT64", "int64", "iu"),
    "tensor(float16)": ("FP16", "float16", "iuf"),
    "tensor(float)": ("FP32", "float32", "iuf"),
    "tensor(double)": ("FP64", "float64", "iuf"),
    "tensor(string)": ("BYTES", "object", "U"),
}


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a model.

    Attributes:
        name: as in the graph.
        onnx_type: as ONNX Runtime names it, `tensor(float)`.
        shape: extents; -1 where the graph leaves one open.
    """

    name: str
    onnx_type: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.onnx_type not in TYPES:
            raise ModelError(
                f"{self.name} is a {self.onnx_type}, which the protocol cannot carry",
                "export the model with plain tensors (for scikit-learn: zipmap=False)",
            )

    @property
    def datatype(self) -> str:
        """The protocol's name for the element type."""
        return TYPES[self.onnx_type][0]

    def describe(self) -> dict[str, Any]:
        """The tensor in a model's metadata."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    def accepts(self, shape: Sequence[int]) -> bool:
        """Whether an array of `shape` fits, open extents taking anything."""
        return len(shape) == len(self.shape) and all(
            wanted in (-1, extent) for extent, wanted in zip(shape, self.shape, strict=True)
        )

    def read(self, tensor: Mapping[str, Any]) -> Array:
        """Turn a tensor of a request into an array of this name, type and shape.

        Raises:
            RequestError: another datatype or shape, values that do not fit, or too few or too many.
        """
        if tensor.get("datatype") != self.datatype:
            raise RequestError(
                f"{self.name} is {self.datatype}, the request has {tensor.get('datatype')!r}"
            )
        shape = tensor.get("shape")
        if not isinstance(shape, list) or any(type(n) is not int or n < 0 for n in shape):
            raise RequestError(f"{self.name} needs a shape, a list of integers")
        if not self.accepts(shape):
            raise RequestError(f"{self.name} has shape {list(self.shape)}, the request has {shape}")
        if not isinstance(tensor.get("data"), list):
            raise RequestError(f"{self.name} needs data, a list")
        array = self._elements(tensor["data"])
        if array.size != math.prod(shape):
            raise RequestError(
                f"{self.name} of shape {shape} has {math.prod(shape)} elements, "
                f"the request has {array.size}"
            )
        return array.reshape(shape)

    def _elements(self, data: list[Any]) -> Array:
        _, dtype, kinds = TYPES[self.onnx_type]
        refusal = f"{self.name} has data that is not {self.datatype}"
        try:
            values = np.array(data) if data else np.array([], dtype=dtype)
            # numpy would read "1.5" as a number and 1.5 as an integer: look before converting
            if values.size and values.dtype.kind not in kinds:
                raise RequestError(refusal)
            if dtype not in ("bool", "object") and values.size and values.dtype.kind in "iu":
                _in_range(values, np.dtype(dtype), refusal)
            with np.errstate(over="raise"):
                return values.astype(dtype)
        except (ValueError, OverflowError, FloatingPointError) as error:
            raise RequestError(refusal) from error

    def write(self, array: Array) -> dict[str, Any]:
        """The array as a tensor of a response; numbers stay an array, which orjson writes."""
        data: Any = array.ravel() if array.dtype != object else array.ravel().tolist()
        return {
            "name": self.name,
            "datatype": self.datatype,
            "shape": list(array.shape),
            "data": data,
        }


def _in_range(values: Array, dtype: np.dtype[Any], refusal: str) -> None:
    if dtype.kind not in "iu":
        return
    limits = np.iinfo(dtype)
    if int(values.min()) < limits.min or int(values.max()) > limits.max:
        raise RequestError(refusal)
