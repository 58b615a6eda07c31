"""The Open Inference Protocol V2 over gRPC: service `inference.GRPCInferenceService`."""

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from edgekit_runtime import __version__
from edgekit_runtime.errors import ModelNotFound, RequestError
from edgekit_runtime.serving.messages import MESSAGES
from edgekit_runtime.serving.models import Model, describe, inputs_of, outputs_of, run
from edgekit_runtime.serving.service import Service
from edgekit_runtime.serving.tensors import Array, TensorSpec, raw

# where `contents` keeps the elements of each datatype; FP16 has no such place
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}

_Method = Callable[[Any, dict[str, str]], Awaitable[Any]]


class OpenInference:
    """Answers the protocol's calls from a service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def methods(self) -> dict[str, _Method]:
        """What is called, by name."""
        return {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ServerMetadata": self._server,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._metadata,
            "ModelInfer": self._infer,
        }

    async def _live(self, _request: Any, _metadata: dict[str, str]) -> Any:
        return _message("ServerLiveResponse", live=True)

    async def _ready(self, _request: Any, _metadata: dict[str, str]) -> Any:
        return _message("ServerReadyResponse", ready=self._service.is_ready())

    async def _server(self, _request: Any, _metadata: dict[str, str]) -> Any:
        return _message("ServerMetadataResponse", name="edgekit", version=__version__)

    async def _model_ready(self, request: Any, _metadata: dict[str, str]) -> Any:
        try:
            self._service.models.find(request.name, request.version)
        except ModelNotFound:
            return _message("ModelReadyResponse", ready=False)
        return _message("ModelReadyResponse", ready=self._service.is_ready())

    async def _metadata(self, request: Any, _metadata: dict[str, str]) -> Any:
        model = self._service.models.find(request.name, request.version)
        return _message("ModelMetadataResponse", **describe(model))

    async def _infer(self, request: Any, _metadata: dict[str, str]) -> Any:
        model = self._service.models.find(request.model_name, request.model_version)
        return await self._service.work("grpc", model, lambda: answer(model, request))


def answer(model: Model, request: Any) -> Any:
    """The `ModelInferResponse` to a `ModelInferRequest`; raw where the request is raw.

    Raises:
        RequestError: the request does not fit the model; the message says in what.
    """
    specs = inputs_of(model, [tensor.name for tensor in request.inputs])
    parts = request.raw_input_contents
    if parts and len(parts) != len(request.inputs):
        raise RequestError(f"{len(request.inputs)} inputs with {len(parts)} raw_input_contents")
    feed = {}
    for index, tensor in enumerate(request.inputs):
        spec, shape = specs[tensor.name], list(tensor.shape)
        spec.check(tensor.datatype, shape)
        if parts:
            feed[spec.name] = spec.read_raw(parts[index], shape)
        else:
            feed[spec.name] = _typed(spec, tensor.contents, shape)
    made = run(model, feed, outputs_of(model, [output.name for output in request.outputs]))
    response = _message(
        "ModelInferResponse",
        model_name=model.name,
        model_version=model.version,
        id=request.id,
    )
    as_raw = bool(parts) or any(spec.datatype not in CONTENTS for spec, _ in made)
    for spec, array in made:
        tensor = response.outputs.add(name=spec.name, datatype=spec.datatype, shape=array.shape)
        if as_raw:
            response.raw_output_contents.append(raw(array))
        else:
            values = array.ravel().tolist()
            if spec.datatype == "BYTES":
                values = [str(text).encode() for text in values]
            getattr(tensor.contents, CONTENTS[spec.datatype]).extend(values)
    return response


def _typed(spec: TensorSpec, contents: Any, shape: list[int]) -> Array:
    if spec.datatype not in CONTENTS:
        raise RequestError(f"{spec.name} is {spec.datatype}, which goes as raw_input_contents only")
    values = getattr(contents, CONTENTS[spec.datatype])
    if spec.datatype == "BYTES":
        return spec.shaped(_texts(spec.name, values), shape)
    return spec.read_values(np.array(values), shape)


def _texts(name: str, values: Any) -> Array:
    try:
        return np.array([value.decode() for value in values], object)
    except UnicodeDecodeError as error:
        raise RequestError(f"{name} has data that is not UTF-8 text") from error


def _message(kind: str, /, **fields: Any) -> Any:
    return MESSAGES[f"inference.{kind}"](**fields)
