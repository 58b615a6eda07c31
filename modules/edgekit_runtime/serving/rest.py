"""The Open Inference Protocol V2 over REST, health and metrics."""

from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from edgekit_runtime import __version__
from edgekit_runtime.errors import (
    ModelNotFound,
    Overloaded,
    RequestError,
    Unauthenticated,
    Unavailable,
)
from edgekit_runtime.serving.http import Reply, Request, refusal
from edgekit_runtime.serving.models import Model, describe
from edgekit_runtime.serving.requests import answer, write_json
from edgekit_runtime.serving.service import Service

EXTENSIONS = ["binary_tensor_data"]
BINARY = "application/octet-stream"
HEADER_LENGTH = "inference-header-content-length"


class Rest:
    """Answers HTTP requests from a service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def answer(self, request: Request) -> Reply:
        """The reply to one request."""
        parts = [unquote(part) for part in request.path.split("/")[1:]]
        # who starts and watches containers has no token
        if parts[:2] == ["v2", "health"]:
            return self._health(request, parts[2:])
        try:
            self._service.tokens.check(request.headers.get(b"authorization", b"").decode("latin-1"))
            match parts:
                case ["v2", "models", name, "versions", version, *rest]:
                    return await self._model(request, rest, name, version)
                case ["v2", "models", name, *rest]:
                    return await self._model(request, rest, name, "")
            return self._server(request, parts)
        except Unauthenticated as error:
            return refusal(HTTPStatus.UNAUTHORIZED, str(error))
        except ModelNotFound as error:
            return refusal(HTTPStatus.NOT_FOUND, str(error))
        except RequestError as error:
            return refusal(HTTPStatus.BAD_REQUEST, str(error))
        except (Overloaded, Unavailable) as error:
            return refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error))

    async def _model(self, request: Request, verb: list[str], name: str, version: str) -> Reply:
        model = self._service.models.find(name, version)
        match verb:
            case ["infer"] if request.method == b"POST":
                return await self._infer(model, request)
            case ["infer"]:
                return refusal(HTTPStatus.METHOD_NOT_ALLOWED, "infer takes POST")
            case [] | ["ready"] if request.method != b"GET":
                return refusal(HTTPStatus.METHOD_NOT_ALLOWED, "this takes GET")
            case []:
                return _json(describe(model))
            case ["ready"]:
                return self._readiness({"name": model.name})
        return refusal(HTTPStatus.NOT_FOUND, f"nothing at {request.path}")

    async def _infer(self, model: Model, request: Request) -> Reply:
        text = request.headers.get(HEADER_LENGTH.encode())
        if text is not None and not text.isdigit():
            raise RequestError(f"{HEADER_LENGTH} is no number")
        header = None if text is None else int(text)
        response = await self._service.work(
            "rest", model, lambda: answer(model, request.body, header)
        )
        if not response.header:
            return Reply(HTTPStatus.OK, response.data)
        headers = ((HEADER_LENGTH, str(response.header)),)
        return Reply(HTTPStatus.OK, response.data, BINARY, headers)

    def _server(self, request: Request, parts: list[str]) -> Reply:
        if parts not in (["v2"], ["metrics"]):
            return refusal(HTTPStatus.NOT_FOUND, f"nothing at {request.path}")
        if request.method != b"GET":
            return refusal(HTTPStatus.METHOD_NOT_ALLOWED, "this takes GET")
        service = self._service
        if parts == ["metrics"]:
            text = service.metrics.write(service.models, service.waiting, service.is_ready())
            return Reply(HTTPStatus.OK, text, service.metrics.content_type)
        return _json({"name": "edgekit", "version": __version__, "extensions": EXTENSIONS})

    def _health(self, request: Request, parts: list[str]) -> Reply:
        if parts not in (["live"], ["ready"]):
            return refusal(HTTPStatus.NOT_FOUND, f"nothing at {request.path}")
        if request.method != b"GET":
            return refusal(HTTPStatus.METHOD_NOT_ALLOWED, "this takes GET")
        return _json({"live": True}) if parts == ["live"] else self._readiness({})

    def _readiness(self, about: dict[str, Any]) -> Reply:
        ready = self._service.is_ready()
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return Reply(status, write_json({**about, "ready": ready}))


def _json(data: Any) -> Reply:
    return Reply(HTTPStatus.OK, write_json(data))
