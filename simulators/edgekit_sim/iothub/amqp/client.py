"""One AMQP client: what it may do, its links, and what is under way for it."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from edgekit_sim.amqp.composites import Outcome, Rejected, error_of
from edgekit_sim.amqp.endpoint import Endpoint
from edgekit_sim.amqp.errors import AmqpError, Malformed
from edgekit_sim.amqp.events import (
    Attached,
    Delivered,
    Detached,
    Event,
    Sendable,
    Settled,
)
from edgekit_sim.amqp.links import IncomingLink, Link, OutgoingLink
from edgekit_sim.amqp.message import Message, read_message
from edgekit_sim.amqp.sasl import PLAIN, Credentials
from edgekit_sim.iothub.access import SERVICE_CONNECT, Gatekeeper
from edgekit_sim.iothub.amqp.claims import Claim, Claims

logger = logging.getLogger(__name__)

CHECK_SECONDS = 1.0  # how often it is looked whether claims have ended


class Sink(Protocol):
    """Where a client sends to."""

    path: str

    async def take(self, link: IncomingLink, message: Message) -> None:
        """Take a message; an AmqpError rejects it."""


class Spring(Protocol):
    """Where a client receives from: one for each link."""

    path: str

    def attached(self, link: OutgoingLink) -> None:
        """The client listens from now on; an AmqpError refuses it."""

    def sendable(self, link: OutgoingLink) -> None:
        """The client takes messages, or takes them again."""

    def settled(self, link: OutgoingLink, tag: bytes, outcome: Outcome) -> None:
        """The client is done with what was sent under `tag`."""

    def detached(self, link: OutgoingLink) -> None:
        """The client listens no more."""


class Client:
    """Serves one client.

    Args:
        gatekeeper: knows the policies.
        find: gives the node that a link is to; an AmqpError refuses it.
        endpoint: the client's connection.

    Attributes:
        claims: what it has proved it may do.
    """

    def __init__(
        self,
        gatekeeper: Gatekeeper,
        find: "Callable[[Client, Link], Sink | Spring]",
        endpoint: Endpoint,
    ) -> None:
        self.claims = Claims()
        self.endpoint = endpoint
        self._gatekeeper = gatekeeper
        self._find = find
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def authenticate(self, credentials: Credentials) -> bool:
        """Let a client in: with PLAIN by the name and key of a policy, else to show a token."""
        if credentials.mechanism != PLAIN:
            return True
        policy = self._gatekeeper.by_key(credentials.name, credentials.password)
        if policy is None:
            return False
        self.claims.add(Claim("", policy.rights, float("inf")))
        return True

    def handle(self, event: Event) -> None:
        """Take an event of the connection to the node it is for."""
        if isinstance(event, Attached):
            self._attach(event.link)
        elif isinstance(event, Delivered):
            self._deliver(event)
        elif isinstance(event, Sendable):
            if event.link.attached:
                event.link.state.sendable(event.link)
        elif isinstance(event, Settled):
            event.link.state.settled(event.link, event.tag, event.outcome)
        elif isinstance(event, Detached):
            self._detach(event.link)

    def lost(self) -> None:
        """The client has gone: what was under way for it is not waited for."""
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()

    def _attach(self, link: Link) -> None:
        try:
            node: Any = self._find(self, link)
            link.state = node
            if isinstance(link, OutgoingLink):
                node.attached(link)
        except AmqpError as error:
            logger.info("no link to %r: %s", link.address[:200], error)
            link.refuse(error)
            return
        link.accept()
        self._links.add(link)
        if self._timer is None:
            self._check_claims()

    def _detach(self, link: Link) -> None:
        self._links.discard(link)
        if isinstance(link, OutgoingLink):
            link.state.detached(link)

    def _deliver(self, event: Delivered) -> None:
        try:
            message = read_message(event.data)
        except Malformed as error:
            event.link.settle(event.delivery_id, Rejected(error_of(error).described()))
            return
        task = asyncio.get_running_loop().create_task(self._take(event, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, event: Delivered, message: Message) -> None:
        try:
            await event.link.state.take(event.link, message)
        except AmqpError as error:
            event.link.settle(event.delivery_id, Rejected(error_of(error).described()))
        else:
            event.link.settle(event.delivery_id)
        self.endpoint.flush()

    def _check_claims(self) -> None:
        """Take links from a client whose claim on them has ended."""
        now = time.time()
        for link in list(self._links):
            path = link.state.path
            if path and self.claims.until(path, SERVICE_CONNECT) <= now:
                error = AmqpError("amqp:unauthorized-access", "The token has expired.")
                self.drop(link, error)
        self._timer = asyncio.get_running_loop().call_later(CHECK_SECONDS, self._check_claims)

    def drop(self, link: Link, error: AmqpError) -> None:
        """Take a link from the client, saying why."""
        if link.attached:
            link.detach(error)
            self._detach(link)
            self.endpoint.flush()
