"""Tensors of the Open Inference Protocol V2, checked and turned into numpy arrays and back.

The protocol: https://github.com/kserve/open-inference-protocol, "REST API", version 2. `data` is
row-major, flat or nested; both are read, flat is written.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit_runtime.errors import ModelError, RequestError

Array = NDArray[Any]

# datatype of the protocol -> dtype of numpy, kinds of JSON values that fit without loss of meaning
# (numpy's letters: b bool, i u integer, f float, U text)
TYPES = {
    "BOOL": ("bool", "b"),
    "UINT8": ("uint8", "iu"),
    "UINT16": ("uint16", "iu"),
    "UINT32": ("uint32", "iu"),
    "UINT64": ("uint64", "iu"),
    "INT8": ("int8", "iu"),
    "INT16": ("int16", "iu"),
    "INT32": ("int32", "iu"),
    "INT64": ("int64", "iu"),
    "FP16": ("float16", "iuf"),
    "FP32": ("float32", "iuf"),
    "FP64": ("float64", "iuf"),
    "BYTES": ("object", "U"),
}
DATATYPES = {dtype: datatype for datatype, (dtype, _) in TYPES.items()}
_LENGTH = struct.Struct("<I")  # in front of each element of BYTES, in raw data


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a model.

    Attributes:
        name: as in the graph.
        datatype: as the protocol names it, `FP32`.
        shape: extents; -1 where the graph leaves one open.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.datatype not in TYPES:
            raise ModelError(
                f"{self.name} is a {self.datatype}, which the protocol cannot carry",
                "export the model with plain tensors (for scikit-learn: zipmap=False)",
            )

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type of its arrays; `object` for text."""
        return np.dtype(TYPES[self.datatype][0])

    def describe(self) -> dict[str, Any]:
        """The tensor in a model's metadata."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    def accepts(self, shape: Sequence[int]) -> bool:
        """Whether an array of `shape` fits, open extents taking anything."""
        return len(shape) == len(self.shape) and all(
            wanted in (-1, extent) for extent, wanted in zip(shape, self.shape, strict=True)
        )

    def check(self, datatype: Any, shape: Any) -> None:
        """See that a tensor of a request is of this type and shape.

        Raises:
            RequestError: it is not, or its shape is none.
        """
        if datatype != self.datatype:
            raise RequestError(f"{self.name} is {self.datatype}, the request has {datatype!r}")
        if not isinstance(shape, list) or any(type(n) is not int or n < 0 for n in shape):
            raise RequestError(f"{self.name} needs a shape, a list of integers")
        if not self.accepts(shape):
            raise RequestError(f"{self.name} has shape {list(self.shape)}, the request has {shape}")

    def read(self, tensor: Mapping[str, Any]) -> Array:
        """Turn a tensor of a JSON request into an array of this name, type and shape.

        Raises:
            RequestError: another datatype or shape, values that do not fit, or too few or too many.
        """
        shape = tensor.get("shape")
        self.check(tensor.get("datatype"), shape)
        if not isinstance(tensor.get("data"), list):
            raise RequestError(f"{self.name} needs data, a list")
        return self.shaped(self._elements(tensor["data"]), shape)

    def read_raw(self, data: bytes | memoryview, shape: list[int]) -> Array:
        """Turn raw data into an array: row-major, little-endian, text with its length in front.

        Raises:
            RequestError: too few bytes, or too many.
        """
        if self.dtype == object:
            return self.shaped(np.array(_texts(self.name, bytes(data)), object), shape)
        if len(data) % self.dtype.itemsize:
            raise RequestError(f"{self.name} has {len(data)} bytes, no whole elements")
        if self.dtype == bool:
            return self.shaped(np.frombuffer(data, np.uint8) != 0, shape)
        # a copy of its own: the data need not be aligned, nor outlive the request
        array = np.frombuffer(data, self.dtype.newbyteorder("<")).astype(self.dtype)
        return self.shaped(array, shape)

    def read_values(self, values: Array, shape: list[int]) -> Array:
        """Turn numbers or truth values of another width into an array of this type.

        Raises:
            RequestError: values that do not fit, or too few or too many.
        """
        if values.size and self.dtype.kind in "iu":
            _in_range(values, self.dtype, f"{self.name} has data that is not {self.datatype}")
        return self.shaped(values.astype(self.dtype), shape)

    def shaped(self, array: Array, shape: Any) -> Array:
        """The elements in their shape.

        Raises:
            RequestError: too few or too many.
        """
        if array.size != math.prod(shape):
            raise RequestError(
                f"{self.name} of shape {shape} has {math.prod(shape)} elements, "
                f"the request has {array.size}"
            )
        return array.reshape(shape)

    def _elements(self, data: list[Any]) -> Array:
        dtype, kinds = TYPES[self.datatype]
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


def raw(array: Array) -> bytes:
    """An array as raw data, the inverse of `TensorSpec.read_raw`."""
    if array.dtype != object:
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    texts = [text.encode() if isinstance(text, str) else bytes(text) for text in array.ravel()]
    return b"".join(_LENGTH.pack(len(text)) + text for text in texts)


def _texts(name: str, data: bytes) -> list[str]:
    texts, position = [], 0
    try:
        while position < len(data):
            (length,) = _LENGTH.unpack_from(data, position)
            position += _LENGTH.size + length
            if position > len(data):
                raise RequestError(f"{name} has a text that is longer than its data")
            texts.append(data[position - length : position].decode())
    except (struct.error, UnicodeDecodeError) as error:
        raise RequestError(f"{name} has data that is not BYTES of UTF-8 text") from error
    return texts


def _in_range(values: Array, dtype: np.dtype[Any], refusal: str) -> None:
    if dtype.kind not in "iu":
        return
    limits = np.iinfo(dtype)
    if int(values.min()) < limits.min or int(values.max()) > limits.max:
        raise RequestError(refusal)
