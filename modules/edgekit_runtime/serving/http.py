"""HTTP/1.1 on an asyncio protocol with httptools; knows nothing of models.

Requests of one connection are answered in order, one at a time; reading stops while one is being
answered, so a client that pipelines cannot make the server grow.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import cast

import httptools
import orjson

log = logging.getLogger(__name__)

MAX_HEAD = 32 << 10  # bytes of request line and headers
IDLE = 75.0  # seconds a connection may take to send its next request
LINGER = 2.0  # seconds a refused client may take to read why
JSON = "application/json"
# the only headers a request is asked about
KEPT = frozenset(
    {
        b"authorization",
        b"inference-header-content-length",
        b"x-ms-client-request-id",
        b"x-ms-request-id",
    }
)


@dataclass(frozen=True)
class Request:
    """A request: its path without the query; those headers that are in `KEPT`, in lower case."""

    method: bytes
    path: str
    body: bytes
    headers: dict[bytes, bytes]
    keep: bool


@dataclass(frozen=True)
class Reply:
    """The answer to a request."""

    status: HTTPStatus
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


def refusal(status: HTTPStatus, message: str) -> Reply:
    """A reply that says in one line what is wrong."""
    headers: tuple[tuple[str, str], ...] = ()
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers = (("retry-after", "1"),)
    elif status == HTTPStatus.UNAUTHORIZED:
        headers = (("www-authenticate", "Bearer"),)
    return Reply(status, orjson.dumps({"error": " ".join(message.split())}), JSON, headers)


@dataclass
class HttpDoor:
    """What the connections share.

    Attributes:
        answer: called with every request that is complete.
        max_body: bytes of the largest body.
        draining: connections are closed after the answer they wait for.
    """

    answer: Callable[[Request], Awaitable[Reply]]
    max_body: int
    draining: bool = False
    connections: set["Connection"] = field(default_factory=set)

    async def drain(self, seconds: float) -> None:
        """Answer what has come, take nothing new; return when all is answered, or time is up."""
        self.draining = True
        for connection in list(self.connections):
            connection.close_when_done()
        deadline = asyncio.get_running_loop().time() + seconds
        while self.connections and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)


class Connection(asyncio.Protocol):
    """One client's connection."""

    transport: asyncio.Transport

    def __init__(self, door: HttpDoor) -> None:
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._requests: deque[Request] = deque()
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
        self._door.connections.add(self)
        self._idle = self._loop.call_later(IDLE, self.transport.close)

    def connection_lost(self, _error: Exception | None) -> None:
        """The client went away, or we closed."""
        self._door.connections.discard(self)
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
        self._headers: dict[bytes, bytes] = {}
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
        if lower == b"content-length" and value.isdigit() and int(value) > self._door.max_body:
            self._too_large()
        elif lower in KEPT:
            self._headers[lower] = value
        elif lower == b"expect" and value.lower() == b"100-continue" and self._refused is None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_headers_complete(self) -> None:
        """The head is over."""
        self._in_body = True

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._length += len(body)
        if self._length > self._door.max_body:
            self._too_large()
        elif self._refused is None:
            self._body.append(body)

    def on_message_complete(self) -> None:
        """The request is complete and waits for its answer."""
        keep = self._parser.should_keep_alive()
        if self._refused is None:
            path = self._url.partition(b"?")[0].decode("latin-1")
            body = b"".join(self._body)
            self._requests.append(
                Request(self._parser.get_method(), path, body, self._headers, keep)
            )
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
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"over {self._door.max_body} bytes of body"
        )

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        if self._refused is None:
            self._refused = refusal(status, message)

    async def _answer_all(self) -> None:
        keep = True
        try:
            while self._requests and keep:
                request = self._requests.popleft()
                reply = await self._door.answer(request)
                keep = request.keep and not self._door.draining
                self._write(reply, keep)
                await self._writable.wait()
            if keep and self._refused is not None:
                keep = False
                self._write(self._refused, keep)
        except Exception:
            log.exception("a request could not be answered")
            keep = False
            failed = HTTPStatus.INTERNAL_SERVER_ERROR
            self._write(refusal(failed, "the scorer failed; see its log"), keep)
        self._task = None
        if self.transport.is_closing():
            return
        if not keep and self._refused is None:
            self.transport.close()
            return
        # closing on a client that still sends would reset the connection and lose our refusal
        self._idle = self._loop.call_later(IDLE if keep else LINGER, self.transport.close)
        self.transport.resume_reading()

    def _write(self, reply: Reply, keep: bool) -> None:
        headers = reply.headers if keep else (*reply.headers, ("connection", "close"))
        more = "".join(f"{name}: {value}\r\n" for name, value in headers)
        head = (
            f"HTTP/1.1 {reply.status:d} {reply.status.phrase}\r\n"
            f"content-type: {reply.content_type}\r\ncontent-length: {len(reply.body)}\r\n"
            f"{more}\r\n"
        )
        self.transport.write(head.encode("latin-1") + reply.body)
