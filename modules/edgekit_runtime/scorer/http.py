"""The Open Inference Protocol V2 over HTTP/1.1, on an asyncio protocol with httptools and orjson.

Requests of one connection are answered in order, one at a time; reading stops while one is being
answered, so a client that pipelines cannot make the server grow.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import httptools
import orjson

from edgekit_runtime import __version__
from edgekit_runtime.errors import RequestError
from edgekit_runtime.scorer.model import Model

log = logging.getLogger(__name__)

MAX_HEAD = 32 << 10  # bytes of request line and headers
IDLE = 75.0  # seconds a connection may take to send its next request
LINGER = 2.0  # seconds a refused client may take to read why

Reply = tuple[HTTPStatus, Any]


@dataclass
class Service:
    """What the connections share: the model, the threads that run it, how many wait.

    Attributes:
        ready: says whether requests from every door are being taken.
        queue: requests that may wait or run before others get 503.
    """

    model: Model
    executor: Executor
    max_body: int
    queue: int
    ready: Callable[[], bool]
    waiting: int = 0
    draining: bool = False
    connections: set["Connection"] = field(default_factory=set)

    async def answer(self, method: bytes, path: str, body: bytes) -> Reply:
        """The reply to one request: its status and an object that orjson writes."""
        parts = [unquote(part) for part in path.split("/")[1:]]
        match parts:
            case ["v2", "models", name, "versions", version, *rest]:
                found = name == self.model.name and version == self.model.version
                verb = rest
            case ["v2", "models", name, *rest]:
                found, verb = name == self.model.name, rest
            case _:
                return self._server(method, parts)
        if not found:
            return _error(
                HTTPStatus.NOT_FOUND,
                f"no such model here; this is {self.model.name}, version {self.model.version}",
            )
        match verb:
            case ["infer"] if method == b"POST":
                return await self._infer(body)
            case ["infer"]:
                return _error(HTTPStatus.METHOD_NOT_ALLOWED, "infer takes POST")
            case [] | ["ready"] if method != b"GET":
                return _error(HTTPStatus.METHOD_NOT_ALLOWED, "this takes GET")
            case []:
                return HTTPStatus.OK, self.model.describe()
            case ["ready"]:
                return self._readiness({"name": self.model.name})
        return _error(HTTPStatus.NOT_FOUND, f"nothing at {path}")

    def _server(self, method: bytes, parts: list[str]) -> Reply:
        match parts:
            case ["v2"] | ["v2", "health", "live" | "ready"] if method != b"GET":
                return _error(HTTPStatus.METHOD_NOT_ALLOWED, "this takes GET")
            case ["v2"]:
                return HTTPStatus.OK, {"name": "edgekit", "version": __version__, "extensions": []}
            case ["v2", "health", "live"]:
                return HTTPStatus.OK, {"live": True}
            case ["v2", "health", "ready"]:
                return self._readiness({})
        return _error(HTTPStatus.NOT_FOUND, f"nothing at /{'/'.join(parts)}")

    def _readiness(self, about: dict[str, Any]) -> Reply:
        ready = self.ready() and not self.draining
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return status, {**about, "ready": ready}

    async def _infer(self, body: bytes) -> Reply:
        if self.waiting >= self.queue:
            return _error(HTTPStatus.SERVICE_UNAVAILABLE, f"{self.queue} requests wait already")
        self.waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.executor, self._score, body)
        finally:
            self.waiting -= 1

    def _score(self, body: bytes) -> Reply:
        try:
            request = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            return _error(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {error}")
        try:
            response = self.model.infer(request)
        except RequestError as error:
            return _error(HTTPStatus.BAD_REQUEST, str(error))
        # written here, in the thread, so that large outputs do not hold up the event loop
        return HTTPStatus.OK, write_json(response)


def write_json(data: Any) -> bytes:
    """JSON with numpy arrays written as lists."""
    return orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)


def _error(status: HTTPStatus, message: str) -> Reply:
    return status, {"error": " ".join(message.split())}


class Connection(asyncio.Protocol):
    """One client's connection."""

    transport: asyncio.Transport

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._requests: deque[tuple[bytes, str, bytes, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._refused: Reply | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._start_message()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        # uvloop's transport is one in all but its base class
        self.transport = cast(asyncio.Transport, transport)
        self._service.connections.add(self)
        self._idle = self._loop.call_later(IDLE, self.transport.close)

    def connection_lost(self, _error: Exception | None) -> None:
        """The client went away, or we closed."""
        self._service.connections.discard(self)
        self._idle.cancel()
        self._writable.set()

    def pause_writing(self) -> None:
        """The client reads too slowly: the next request waits."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The client has read what was sent."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Parse what came; start answering once a request is complete."""
        if self._refused is not None:
            return
        self._unparsed += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(HTTPStatus.BAD_REQUEST, "no other protocol is spoken here")
        except httptools.HttpParserError:
            self._refuse(HTTPStatus.BAD_REQUEST, "this is not HTTP/1.1")
        if not self._in_body and self._unparsed > MAX_HEAD and not self._requests:
            self._head_too_large()
        if (self._requests or self._refused is not None) and self._task is None:
            self.transport.pause_reading()
            self._idle.cancel()
            self._task = self._loop.create_task(self._answer_all())

    def close_when_done(self) -> None:
        """Close now if idle, else once what came has been answered."""
        if self._task is None:
            self.transport.close()

    # httptools' side

    def _start_message(self) -> None:
        self._url = b""
        self._body: list[bytes] = []
        self._length = self._head = self._unparsed = 0
        self._in_body = False

    def on_message_begin(self) -> None:
        """A request begins."""
        self._start_message()

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header: a body too large is refused before it is sent."""
        self._count_head(len(name) + len(value))
        lower = name.lower()
        if lower == b"content-length" and value.isdigit() and int(value) > self._service.max_body:
            self._too_large()
        elif lower == b"expect" and value.lower() == b"100-continue" and self._refused is None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_headers_complete(self) -> None:
        """The head is over."""
        self._in_body = True

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._length += len(body)
        if self._length > self._service.max_body:
            self._too_large()
        elif self._refused is None:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """The request is complete and waits for its answer."""
        keep = self._parser.should_keep_alive()
        if self._refused is None:
            path = self._url.partition(b"?")[0].decode("latin-1")
            self._requests.append((self._parser.get_method(), path, b"".join(self._body), keep))
        self._start_message()

    # answering

    def _count_head(self, size: int) -> None:
        self._head += size
        if self._head > MAX_HEAD:
            self._head_too_large()

    def _head_too_large(self) -> None:
        self._refuse(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"over {MAX_HEAD} bytes of headers"
        )

    def _too_large(self) -> None:
        self._refuse(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"over {self._service.max_body} bytes of body"
        )

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        if self._refused is None:
            self._refused = _error(status, message)

    async def _answer_all(self) -> None:
        keep = True
        try:
            while self._requests and keep:
                method, path, body, keep = self._requests.popleft()
                status, reply = await self._service.answer(method, path, body)
                keep = keep and not self._service.draining
                self._write(status, reply, keep)
                await self._writable.wait()
            if keep and self._refused is not None:
                keep = False
                self._write(*self._refused, keep)
        except Exception:
            log.exception("a request could not be answered")
            keep = False
            self._write(
                *_error(HTTPStatus.INTERNAL_SERVER_ERROR, "the scorer failed; see its log"), keep
            )
        self._task = None
        if self.transport.is_closing():
            return
        if not keep and self._refused is None:
            self.transport.close()
            return
        # closing on a client that still sends would reset the connection and lose our refusal
        self._idle = self._loop.call_later(IDLE if keep else LINGER, self.transport.close)
        self.transport.resume_reading()

    def _write(self, status: HTTPStatus, reply: Any, keep: bool) -> None:
        body = reply if isinstance(reply, bytes) else write_json(reply)
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%s\r\n"
            % (
                status,
                status.phrase.encode(),
                len(body),
                (b"retry-after: 1\r\n" if status == HTTPStatus.SERVICE_UNAVAILABLE else b"")
                + (b"" if keep else b"connection: close\r\n"),
            )
            + body
        )
