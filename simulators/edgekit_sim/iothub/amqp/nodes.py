"""What an AMQP client finds in the hub, by address."""

import re
from typing import TYPE_CHECKING

from edgekit_sim.amqp.endpoint import Endpoint
from edgekit_sim.amqp.errors import AmqpError
from edgekit_sim.amqp.links import Link
from edgekit_sim.iothub.access import SERVICE_CONNECT
from edgekit_sim.iothub.amqp.client import Client, Sink, Spring
from edgekit_sim.iothub.amqp.commands import CommandSink
from edgekit_sim.iothub.amqp.exchange import (
    CBS,
    MANAGEMENT,
    Exchange,
    management_answer,
    token_answer,
)
from edgekit_sim.iothub.amqp.groups import ConsumerGroups
from edgekit_sim.iothub.amqp.notifications import FEEDBACK_TYPE, FILE_TYPE, NoticeReceiver, Queue
from edgekit_sim.iothub.amqp.receivers import EventReceiver, Place, Readers
from edgekit_sim.iothub.events import PARTITIONS, EventLog

if TYPE_CHECKING:
    from edgekit_sim.iothub.hub import Hub

COMMANDS = "messages/devicebound"
FEEDBACK = "messages/servicebound/feedback"
FILES = "messages/servicebound/filenotifications"
_EVENTS = re.compile(r"([^/]+)/ConsumerGroups/([^/]+)/Partitions/([^/]+)", re.IGNORECASE)


class Nodes:
    """Finds what is at an address, for all AMQP clients of one hub.

    Args:
        hub: the hub.

    Attributes:
        groups: consumer groups of the built-in endpoint and of all other streams.
        clients: the connections there are.
    """

    def __init__(self, hub: "Hub") -> None:
        self.hub = hub
        self.groups = ConsumerGroups(hub.store)
        self.clients: set[Endpoint] = set()
        self._readers = Readers()
        self._notices = {
            FEEDBACK: Queue(FEEDBACK_TYPE, hub.commands.feedback, as_list=True),
            FILES: Queue(FILE_TYPE, hub.uploads.notices, as_list=False),
        }
        hub.store.on_commit.append(self._readers.pump)

    def connection(self) -> Endpoint:
        """A connection to this hub."""

        def serve(endpoint: Endpoint) -> Client:
            return Client(self.hub.gatekeeper, self.find, endpoint)

        return Endpoint(self.hub.name, serve, present=self.clients)

    def close(self) -> None:
        """Reset all connections."""
        for endpoint in list(self.clients):
            endpoint.abort()

    def find(self, client: Client, link: Link) -> Sink | Spring:
        """The node that a client attaches a link to.

        Raises:
            AmqpError: nothing is there, or the client has not proved that it may.
        """
        path = re.sub(r"^[a-z]+://[^/]*/?", "", link.address).strip("/")
        receives = link.attach.role
        if path in (CBS, MANAGEMENT):
            return self._exchange(client, link, path)
        if path.lower() == COMMANDS and not receives:
            client.claims.require(path, SERVICE_CONNECT)
            return CommandSink(self.hub, path)
        if path.lower() in self._notices and receives:
            client.claims.require(path, SERVICE_CONNECT)
            return NoticeReceiver(self._notices[path.lower()], client, path)
        if (match := _EVENTS.fullmatch(path)) and receives:
            client.claims.require(path, SERVICE_CONNECT)
            return self._receiver(client, path, *match.groups())
        raise _not_found(f"The messaging entity {path[:200]!r} could not be found.")

    def _exchange(self, client: Client, link: Link, path: str) -> Exchange:
        """Both links of a session to the same address share one."""
        sharing = link.session.shared
        exchange = sharing.get(path)
        if exchange is None:
            gatekeeper = self.hub.gatekeeper
            if path == CBS:
                answer = token_answer(gatekeeper, client.claims)
            else:
                answer = management_answer(gatekeeper, self.events, self.hub.started)
            exchange = sharing[path] = Exchange(answer)
        return exchange

    def _receiver(
        self, client: Client, path: str, entity: str, group: str, partition: str
    ) -> EventReceiver:
        events = self.events(entity)
        if events is None:
            raise _not_found(f"The messaging entity {entity[:60]!r} could not be found.")
        if group not in self.groups:
            raise _not_found(f"The consumer group {group[:60]!r} could not be found.")
        if partition not in map(str, range(PARTITIONS)):
            raise AmqpError(
                "com.microsoft:argument-out-of-range",
                f"The specified partition is invalid for an EventHub partition sender or receiver."
                f" It should be between 0 and {PARTITIONS - 1}.",
            )
        place = Place(entity.lower(), group.lower(), int(partition))
        return EventReceiver(self.hub.registry, events, self._readers, client, path, place)

    def events(self, entity: str) -> EventLog | None:
        """The log of the built-in endpoint or of another stream; None when there is none."""
        if entity.lower() == self.hub.name.lower():
            return self.hub.events
        return self.hub.router.streams.get(entity.lower())


def _not_found(description: str) -> AmqpError:
    return AmqpError("amqp:not-found", description)
