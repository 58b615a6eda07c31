"""Azure ML's scoring service over HTTP: `POST /score`, `GET /`, `GET /swagger.json`.

As its inference server (azureml-inference-server-http) answers: `/score` gives `run` the body and
sends what it returns as JSON; `/` says that the service lives; every answer has the request's id,
its own or a new one. What else a scorer answers, health and metrics, comes from `Rest`.
"""

import re
import time
import uuid
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import orjson

from edgekit_runtime.errors import Overloaded, RequestError, Unauthenticated
from edgekit_runtime.script_scorer.script import Script, ScriptFailed, said
from edgekit_runtime.serving.http import JSON, Reply, Request, refusal
from edgekit_runtime.serving.rest import Rest
from edgekit_runtime.serving.service import Service

REQUEST_ID, CLIENT_ID = "x-ms-request-id", "x-ms-client-request-id"
FAILED, DURATION = "x-ms-run-function-failed", "x-ms-run-fn-exec-ms"
# what may come back in a header
_ID = re.compile(rb"[!-~]{1,128}")


class ScriptFront:
    """Answers HTTP requests for a scoring script."""

    def __init__(self, service: Service, script: Script) -> None:
        self._service, self._script = service, script
        self._rest = Rest(service)

    async def answer(self, request: Request) -> Reply:
        """The reply to one request, with its id."""
        reply = await self._answer(request)
        ids = [(REQUEST_ID, _id(request, REQUEST_ID) or str(uuid.uuid4()))]
        if client := _id(request, CLIENT_ID):
            ids.append((CLIENT_ID, client))
        return replace(reply, headers=(*reply.headers, *ids))

    async def _answer(self, request: Request) -> Reply:
        if request.path == "/" and request.method == b"GET":
            return Reply(HTTPStatus.OK, b"Healthy", "text/plain; charset=utf-8")
        wanted = {"/score": b"POST", "/swagger.json": b"GET"}.get(request.path)
        if wanted is None:
            return await self._rest.answer(request)
        try:
            self._service.tokens.check(request.headers.get(b"authorization", b"").decode("latin-1"))
        except Unauthenticated as error:
            return refusal(HTTPStatus.UNAUTHORIZED, str(error))
        if request.method != wanted:
            return refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"this takes {wanted.decode()}")
        if request.path == "/swagger.json":
            return Reply(HTTPStatus.OK, orjson.dumps(swagger(self._script)))
        return await self._score(request)

    async def _score(self, request: Request) -> Reply:
        begin = time.perf_counter()
        try:
            body, kind = await self._service.work(
                "score", self._script, lambda: write(self._script.call(request.body))
            )
        except RequestError as error:
            return refusal(HTTPStatus.BAD_REQUEST, str(error))
        except Overloaded as error:
            return refusal(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except ScriptFailed as error:
            reply = refusal(HTTPStatus.INTERNAL_SERVER_ERROR, str(error))
            return replace(reply, headers=((FAILED, "True"),))
        took = f"{(time.perf_counter() - begin) * 1000:.3f}"
        return Reply(HTTPStatus.OK, body, kind, ((FAILED, "False"), (DURATION, took)))


def write(result: Any) -> tuple[bytes, str]:
    """What `run` returned as a body with its media type: bytes as they are, all else as JSON.

    Raises:
        ScriptFailed: it cannot be written as JSON.
    """
    if isinstance(result, bytes):
        return result, "application/octet-stream"
    try:
        options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
        return orjson.dumps(result, option=options), JSON
    except TypeError as error:
        raise ScriptFailed(f"what run() returned is no JSON: {said(error)}") from error


def swagger(script: Script) -> dict[str, Any]:
    """The service as OpenAPI 2.0; of a script's data nothing is known but that it is JSON."""
    failed = {"description": "The script failed", "schema": {"$ref": "#/definitions/Error"}}
    return {
        "swagger": "2.0",
        "info": {
            "title": script.name,
            "description": f"API of the model {script.name}",
            "version": script.version,
        },
        "schemes": ["http", "https"],
        "consumes": [JSON],
        "produces": [JSON],
        "securityDefinitions": {
            "Bearer": {"type": "apiKey", "name": "Authorization", "in": "header"}
        },
        "paths": {
            "/": {
                "get": {
                    "operationId": "ServiceHealthCheck",
                    "produces": ["text/plain"],
                    "responses": {"200": {"description": "It lives"}},
                }
            },
            "/score": {
                "post": {
                    "operationId": "RunMLService",
                    "security": [{"Bearer": []}],
                    "parameters": [
                        {
                            "name": "serviceInputPayload",
                            "in": "body",
                            "required": True,
                            "schema": {"$ref": "#/definitions/ServiceInput"},
                        }
                    ],
                    "responses": {
                        "200": {
                            "description": "What the script returned",
                            "schema": {"$ref": "#/definitions/ServiceOutput"},
                        },
                        "500": failed,
                    },
                }
            },
        },
        "definitions": {
            "ServiceInput": {"type": "object", "additionalProperties": True},
            "ServiceOutput": {},
            "Error": {"type": "object", "properties": {"error": {"type": "string"}}},
        },
    }


def _id(request: Request, name: str) -> str:
    value = request.headers.get(name.encode(), b"")
    return value.decode("ascii") if _ID.fullmatch(value) else ""
