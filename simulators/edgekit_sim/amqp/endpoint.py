"""A connection on an asyncio transport."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol, cast

from edgekit_sim.amqp.connection import Connection, Limits, Stage
from edgekit_sim.amqp.events import Event
from edgekit_sim.amqp.sasl import Credentials

logger = logging.getLogger(__name__)

LINGER_SECONDS = 5.0  # how long a peer may take to hang up after the last frame


class Application(Protocol):
    """What a server does for one client."""

    def authenticate(self, credentials: Credentials) -> bool:
        """Say whether a client may go on after SASL."""

    def handle(self, event: Event) -> None:
        """Take an event of the connection."""

    def lost(self) -> None:
        """The client has gone; nothing follows."""


class Endpoint(asyncio.Protocol):
    """One client's connection.

    Args:
        container: the server's name.
        application: makes what serves the client.
        limits: what the connection takes.
        present: connections that are there; this one is in it from its first to its last byte.
    """

    def __init__(
        self,
        container: str,
        application: "Callable[[Endpoint], Application]",
        limits: Limits | None = None,
        present: "set[Endpoint] | None" = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._application = application(self)
        self.connection = Connection(
            container, self._application.authenticate, self._loop.time(), limits
        )
        self._present: set[Endpoint] = set() if present is None else present
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        self._transport = cast(asyncio.Transport, transport)
        self._present.add(self)
        self._tick()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        del exc
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._handle(self.connection.lost())
        self._application.lost()
        self._present.discard(self)

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        self._handle(self.connection.receive(data, self._loop.time()))
        self.flush()

    def eof_received(self) -> bool:
        """The client says no more."""
        return False

    def pause_writing(self) -> None:
        """Bytes pile up: hold messages back."""
        self.connection.writable = False

    def resume_writing(self) -> None:
        """Bytes flow again."""
        self._handle(self.connection.resume())
        self.flush()

    def flush(self) -> None:
        """Send what has been said; hang up when all has."""
        transport = self._transport
        if transport is None:
            return
        out = self.connection.output()
        if out:
            transport.write(out)
        if self.connection.stage is Stage.CLOSED:
            self._transport = None
            transport.close()
            self._loop.call_later(LINGER_SECONDS, transport.abort)

    def abort(self) -> None:
        """Reset the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            self._application.handle(event)

    def _tick(self) -> None:
        now = self._loop.time()
        self._handle(self.connection.tick(now))
        self.flush()
        if self._transport is not None:
            self._timer = self._loop.call_later(self.connection.next_tick(now) + 0.01, self._tick)
