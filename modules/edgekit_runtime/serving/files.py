"""A file that stands for a tensor: numpy's `.npy`."""

import io

import numpy as np

from edgekit_runtime.errors import RequestError
from edgekit_runtime.serving.tensors import Array, TensorSpec

NPY = b"\x93NUMPY"


def read_file(spec: TensorSpec, data: bytes) -> Array:
    """The array in a `.npy` file, with a batch in front.

    Args:
        spec: of the tensor it is for; the file has its shape, with or without the batch.
        data: the file.

    Raises:
        RequestError: it is no such file, or its array does not fit.
    """
    if not data.startswith(NPY):
        raise RequestError(f"{spec.name} takes arrays, or one as a .npy file")
    try:
        array: Array = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # whatever Python's tokenizer and parser raise on the header
        raise RequestError(f"{spec.name} has a .npy file that does not read") from error
    if not np.can_cast(array.dtype, spec.dtype, "same_kind"):
        raise RequestError(f"{spec.name} is {spec.datatype}, the file has {array.dtype}")
    if array.ndim == len(spec.shape) - 1:
        array = array[None]
    return array.astype(spec.dtype)
