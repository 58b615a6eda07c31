"""Requests and responses of the Open Inference Protocol V2 in JSON, binary tensors included.

The protocol: https://github.com/kserve/open-inference-protocol. Its extension for binary tensors is
Triton's: the JSON is followed by the data of those tensors whose `parameters` have a
`binary_data_size`, one after the other.
"""

from dataclasses import dataclass
from typing import Any

import orjson

from edgekit_runtime.errors import RequestError
from edgekit_runtime.serving.models import Model, Models, inputs_of, outputs_of, run
from edgekit_runtime.serving.tensors import Array, TensorSpec, raw


@dataclass(frozen=True)
class Response:
    """A response: JSON, then binary data where tensors were asked for so.

    Attributes:
        data: all of it.
        header: bytes of the JSON; 0 where there is no binary data.
        model: that answered.
    """

    data: bytes
    header: int
    model: Model


def decode(data: bytes | memoryview) -> dict[str, Any]:
    """A request's JSON.

    Raises:
        RequestError: it is not JSON, or no object, or its id is no string.
    """
    try:
        request = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON: {error}") from error
    if not isinstance(request, dict):
        raise RequestError("the request is not a JSON object")
    if not isinstance(request.get("id", ""), str):
        raise RequestError("id is not a string")
    return request


def answer(model: Model, body: bytes, header: int | None = None) -> Response:
    """Answer one request.

    Args:
        model: that it is for.
        body: JSON, and binary data behind it.
        header: bytes of the JSON; None where it is all of the body.

    Raises:
        RequestError: the request does not fit the model; the message says in what.
        Unavailable: what runs the model fails.
    """
    length = len(body) if header is None else header
    if not 0 <= length <= len(body):
        raise RequestError(f"the JSON is {length} bytes long, the body {len(body)}")
    whole = memoryview(body)
    request = decode(whole[:length])
    feed = _feed(model, request.get("inputs"), whole[length:])
    asked = request.get("outputs")
    named = _by_name(asked, "outputs") if asked else {}
    made = run(model, feed, outputs_of(model, list(named)))
    all_binary = _parameters(request).get("binary_data_output") is True
    return _response(
        model,
        request,
        made,
        {
            spec.name
            for spec, _ in made
            if _parameters(named.get(spec.name, {})).get("binary_data", all_binary) is True
        },
    )


def answer_message(models: Models, payload: bytes) -> tuple[Model | None, bytes]:
    """Answer a request that stands alone, as on a broker: with an `id`, perhaps a `model_name`.

    Returns:
        The model that answered, None where the request is refused; and the V2 response, or
        `{"id", "error"}`.

    Raises:
        Unavailable: what runs the model fails.
    """
    identity = None
    try:
        request = decode(payload)
        if not isinstance(request.get("id"), str):
            raise RequestError("the input needs an id, a string")
        identity = request["id"]
        name = request.get("model_name", "")
        if not isinstance(name, str):
            raise RequestError("model_name is not a string")
        model = models.find(name)
        response = answer(model, payload)
    except RequestError as error:
        return None, write_json({"id": identity, "error": str(error)})
    return model, response.data


def write_json(data: Any) -> bytes:
    """JSON with numpy arrays written as lists."""
    return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)


def _feed(model: Model, tensors: Any, binary: memoryview) -> dict[str, Array]:
    named = _by_name(tensors, "inputs")
    specs = inputs_of(model, list(named))
    feed, position = {}, 0
    for name, tensor in named.items():
        size = _parameters(tensor).get("binary_data_size")
        if size is None:
            feed[name] = specs[name].read(tensor)
            continue
        if type(size) is not int or not 0 <= size <= len(binary) - position:
            raise RequestError(f"{name} has a binary_data_size of {size}, more than there is")
        specs[name].check(tensor.get("datatype"), tensor.get("shape"))
        part = binary[position : position + size]
        feed[name] = specs[name].read_raw(part, tensor["shape"])
        position += size
    if position != len(binary):
        raise RequestError(f"{len(binary) - position} bytes of binary data belong to no tensor")
    return feed


def _by_name(tensors: Any, what: str) -> dict[str, dict[str, Any]]:
    if not isinstance(tensors, list) or not tensors:
        raise RequestError(f"{what} is missing or not a list")
    named: dict[str, dict[str, Any]] = {}
    for tensor in tensors:
        if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
            raise RequestError(f"{what} needs objects with a name")
        if tensor["name"] in named:
            raise RequestError(f"{what} has {tensor['name']!r} twice")
        named[tensor["name"]] = tensor
    return named


def _parameters(owner: dict[str, Any]) -> dict[str, Any]:
    parameters = owner.get("parameters", {})
    if not isinstance(parameters, dict):
        raise RequestError("parameters is not an object")
    return parameters


def _response(
    model: Model,
    request: dict[str, Any],
    made: list[tuple[TensorSpec, Array]],
    binary: set[str],
) -> Response:
    about: dict[str, Any] = {"model_name": model.name, "model_version": model.version}
    if "id" in request:
        about["id"] = request["id"]
    tensors, parts = [], []
    for spec, array in made:
        if spec.name in binary:
            parts.append(raw(array))
            described = {**spec.describe(), "shape": list(array.shape)}
            tensors.append({**described, "parameters": {"binary_data_size": len(parts[-1])}})
        else:
            tensors.append(spec.write(array))
    about["outputs"] = tensors
    head = write_json(about)
    return Response(b"".join([head, *parts]), len(head) if parts else 0, model)
