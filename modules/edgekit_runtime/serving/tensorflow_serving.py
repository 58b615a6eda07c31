"""TensorFlow Serving's `PredictionService`: Predict and GetModelMetadata.

Clients of Azure's accelerated models speak it. They name no model; their metadata has the route of
their service, `x-ms-aml-grpc-service-route: /api/v1/service/NAME`.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from edgekit_runtime.errors import ModelNotFound, RequestError
from edgekit_runtime.serving.files import read_file
from edgekit_runtime.serving.messages import MESSAGES
from edgekit_runtime.serving.models import Model, inputs_of, outputs_of, run
from edgekit_runtime.serving.service import Service
from edgekit_runtime.serving.tensors import Array, TensorSpec, raw

ROUTE = "x-ms-aml-grpc-service-route"
SIGNATURE = "serving_default"
PREDICT_METHOD = "tensorflow/serving/predict"
STRING = 7
# datatype -> TensorFlow's number of it, and the field of TensorProto that keeps its elements
TYPES = {
    "FP32": (1, "float_val"),
    "FP64": (2, "double_val"),
    "INT32": (3, "int_val"),
    "UINT8": (4, "int_val"),
    "INT16": (5, "int_val"),
    "INT8": (6, "int_val"),
    "BYTES": (STRING, "string_val"),
    "INT64": (9, "int64_val"),
    "BOOL": (10, "bool_val"),
    "UINT16": (17, "int_val"),
    "FP16": (19, "half_val"),
    "UINT32": (22, "uint32_val"),
    "UINT64": (23, "uint64_val"),
}
MOST_FILLED = 1 << 22  # elements of a tensor that one element may stand for
DATATYPES = {number: datatype for datatype, (number, _) in TYPES.items()}

_Method = Callable[[Any, dict[str, str]], Awaitable[Any]]


class PredictionService:
    """Answers the calls from a service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def methods(self) -> dict[str, _Method]:
        """What is called, by name."""
        return {"Predict": self._predict, "GetModelMetadata": self._metadata}

    async def _predict(self, request: Any, metadata: dict[str, str]) -> Any:
        model = self._model(request.model_spec, metadata)
        return await self._service.work("predict", model, lambda: predict(model, request))

    async def _metadata(self, request: Any, metadata: dict[str, str]) -> Any:
        if list(request.metadata_field) != ["signature_def"]:
            raise RequestError("metadata_field: only signature_def is known")
        return describe(self._model(request.model_spec, metadata))

    def _model(self, spec: Any, metadata: dict[str, str]) -> Model:
        if spec.signature_name not in ("", SIGNATURE):
            raise RequestError(f"no signature {spec.signature_name!r}; there is {SIGNATURE}")
        if spec.version_label:
            raise ModelNotFound(f"no version is labelled {spec.version_label!r}")
        models = self._service.models
        version = str(spec.version.value) if spec.HasField("version") else ""
        if not spec.name and len(models) > 1:
            return models.find(metadata.get(ROUTE, "").rpartition("/")[2], version)
        return models.find(spec.name, version)


def predict(model: Model, request: Any) -> Any:
    """The `PredictResponse` to a `PredictRequest`.

    Raises:
        RequestError: the request does not fit the model; the message says in what.
    """
    specs = inputs_of(model, list(request.inputs))
    feed = {name: read_tensor(specs[name], tensor) for name, tensor in request.inputs.items()}
    response = MESSAGES["tensorflow.serving.PredictResponse"]()
    for spec, array in run(model, feed, outputs_of(model, list(request.output_filter))):
        write_tensor(response.outputs[spec.name], spec, array)
    _name(response.model_spec, model)
    return response


def describe(model: Model) -> Any:
    """The `GetModelMetadataResponse`, with the signature of the model."""
    signatures = MESSAGES["tensorflow.serving.SignatureDefMap"]()
    signature = signatures.signature_def[SIGNATURE]
    signature.method_name = PREDICT_METHOD
    for side, specs in ((signature.inputs, model.inputs), (signature.outputs, model.outputs)):
        for spec in specs:
            side[spec.name].name = spec.name
            side[spec.name].dtype = TYPES[spec.datatype][0]
            for extent in spec.shape:
                side[spec.name].tensor_shape.dim.add(size=extent)
    response = MESSAGES["tensorflow.serving.GetModelMetadataResponse"]()
    _name(response.model_spec, model)
    packed = response.metadata["signature_def"]
    packed.type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    packed.value = signatures.SerializeToString()
    return response


def read_tensor(spec: TensorSpec, tensor: Any) -> Array:
    """A `TensorProto` as an array of this type and shape.

    A string where numbers are wanted is a file with them, as `score_file` sends it.

    Raises:
        RequestError: another type or shape, values that do not fit, or too few or too many.
    """
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.dtype == STRING and spec.datatype != "BYTES":
        files = [read_file(spec, data) for data in tensor.string_val]
        if not files:
            raise RequestError(f"{spec.name} has no file")
        array = np.concatenate(files)
        spec.check(spec.datatype, list(array.shape))
        return array
    spec.check(DATATYPES.get(tensor.dtype, f"type {tensor.dtype}"), shape)
    if tensor.tensor_content and spec.datatype != "BYTES":
        return spec.read_raw(tensor.tensor_content, shape)
    return _elements(spec, getattr(tensor, TYPES[spec.datatype][1]), shape)


def write_tensor(target: Any, spec: TensorSpec, array: Array) -> None:
    """Put an array into a `TensorProto`."""
    target.dtype = TYPES[spec.datatype][0]
    for extent in array.shape:
        target.tensor_shape.dim.add(size=extent)
    if spec.datatype == "BYTES":
        target.string_val.extend(str(text).encode() for text in array.ravel())
    else:
        target.tensor_content = raw(array)


def _elements(spec: TensorSpec, values: Any, shape: list[int]) -> Array:
    """Elements one by one; as in TensorFlow, the last one stands for all that are left out."""
    size = math.prod(shape)
    if 0 < len(values) < size and size > MOST_FILLED:
        raise RequestError(f"{spec.name} has {len(values)} elements for {size}: send them all")
    try:
        if spec.datatype == "BYTES":
            found = np.array([value.decode() for value in values], object)
        elif spec.datatype == "FP16":
            found = np.array(values, np.uint16).view(np.float16)
        else:
            found = np.array(values)
    except (UnicodeDecodeError, OverflowError) as error:
        raise RequestError(f"{spec.name} has data that is not {spec.datatype}") from error
    if 0 < found.size < size:
        found = np.concatenate([found, np.repeat(found[-1:], size - found.size)])
    if spec.datatype in ("BYTES", "FP16"):
        return spec.shaped(found, shape)
    return spec.read_values(found, shape)


def _name(spec: Any, model: Model) -> None:
    spec.name = model.name
    spec.signature_name = SIGNATURE
    # versions are numbers there
    if model.version.isdigit():
        spec.version.value = int(model.version)
