"""Receivers of events: each reads a partition for a consumer group, as fast as its client takes.

Of the receivers of a partition within a group, one with an owner level (epoch) is alone: it takes
the place of those with a lower or no level, and who comes with less than it is refused.
"""

import time
from dataclasses import dataclass, field

from edgekit_sim.amqp.composites import Outcome
from edgekit_sim.amqp.errors import AmqpError
from edgekit_sim.amqp.links import OutgoingLink
from edgekit_sim.amqp.message import write_message
from edgekit_sim.iothub.amqp import selectors
from edgekit_sim.iothub.amqp.client import Client
from edgekit_sim.iothub.amqp.event_messages import event_message, partition_state
from edgekit_sim.iothub.events import EventLog
from edgekit_sim.iothub.registry import Registry

BATCH = 200  # events read at a time
RECEIVERS_LIMIT = 5  # without owner level, of a partition within a group
OWNER_LEVEL = "com.microsoft:epoch"
TRACKS = "com.microsoft:enable-receiver-runtime-metric"
UNSETTLED = 0  # the sender settle mode in which the client says what became of each message


@dataclass(frozen=True)
class Place:
    """What a receiver reads: a partition of an event stream, for a consumer group.

    Attributes:
        entity: the stream, lower case.
        group: the consumer group, lower case.
        partition: the partition.
    """

    entity: str
    group: str
    partition: int


@dataclass
class Readers:
    """Who reads what.

    Attributes:
        present: receivers, by what they read.
    """

    present: dict[Place, list["EventReceiver"]] = field(default_factory=dict)

    def admit(self, receiver: "EventReceiver") -> None:
        """Let a receiver in; those it takes the place of lose their links.

        Raises:
            AmqpError: it has to stay outside.
        """
        others = list(self.present.get(receiver.place, ()))
        highest = max((one.level for one in others if one.level is not None), default=None)
        if highest is not None and (receiver.level is None or receiver.level < highest):
            raise AmqpError(
                "amqp:link:stolen",
                f"At least one receiver for the endpoint is created with epoch of '{highest}', and"
                f" so {_named(receiver.level)} receiver is not allowed.",
            )
        if receiver.level is None and len(others) >= RECEIVERS_LIMIT:
            raise AmqpError(
                "amqp:resource-limit-exceeded",
                "Exceeded the maximum number of allowed receivers per partition in a consumer"
                f" group which is {RECEIVERS_LIMIT}.",
            )
        if receiver.level is not None:
            for one in others:
                one.give_way(receiver.level)
        self.present.setdefault(receiver.place, []).append(receiver)

    def leave(self, receiver: "EventReceiver") -> None:
        """A receiver has gone."""
        others = self.present.get(receiver.place, [])
        if receiver in others:
            others.remove(receiver)
        if not others:
            self.present.pop(receiver.place, None)

    def pump(self) -> None:
        """New events are on disk: send them on."""
        for receivers in list(self.present.values()):
            for one in list(receivers):
                one.pump()


class EventReceiver:
    """Gives one receiver the events of a partition.

    Args:
        registry: where senders of events are looked up.
        events: what it reads from.
        readers: all receivers.
        client: whose it is.
        path: the address it was found at.
        place: what it reads of the events.

    Attributes:
        level: its owner level; None without one.
    """

    def __init__(
        self,
        registry: Registry,
        events: EventLog,
        readers: Readers,
        client: Client,
        path: str,
        place: Place,
    ) -> None:
        self.path = path
        self.place = place
        self.level: int | None = None
        self._registry = registry
        self._events = events
        self._readers = readers
        self._client = client
        self._link: OutgoingLink | None = None
        self._next = 0

    def attached(self, link: OutgoingLink) -> None:
        """Begin where the link's filter says."""
        level = link.properties.get(OWNER_LEVEL)
        self.level = int(level) if isinstance(level, int) else None
        self._next = selectors.begin(link, self._events, self.place.partition)
        self._readers.admit(self)
        self._link = link

    def sendable(self, link: OutgoingLink) -> None:
        """Send what is there, as far as the client takes it."""
        tracks = TRACKS in link.desired_capabilities
        settled = link.attach.snd_settle_mode != UNSETTLED
        while link.sendable:
            rows = self._events.rows(self.place.partition, self._next, min(link.credit, BATCH))
            if not rows:
                link.drained()
                return
            state = self._state() if tracks else {}
            for row in rows:
                message = event_message(row, self._registry)
                message.delivery_annotations = state
                link.send(write_message(message), row[2].to_bytes(8), settled)
                self._next = row[2] + 1
                if not self._goes_on(link):
                    return

    def _goes_on(self, link: OutgoingLink) -> bool:
        """Whether what was sent last has left room for more."""
        return link.sendable

    def _state(self) -> dict[str, object]:
        _, last, enqueued = self._events.extent(self.place.partition)
        return partition_state(last, enqueued, int(time.time() * 1000))

    def pump(self) -> None:
        """New events are on disk."""
        if self._link is not None and self._link.sendable:
            self.sendable(self._link)
            self._client.endpoint.flush()

    def give_way(self, level: int) -> None:
        """Leave the partition to a receiver with an owner level."""
        if self._link is not None:
            error = AmqpError(
                "amqp:link:stolen",
                f"New receiver with higher epoch of '{level}' is created hence current receiver"
                f" with epoch '{self.level or 0}' is getting disconnected.",
            )
            self._client.drop(self._link, error)

    def settled(self, link: OutgoingLink, tag: bytes, outcome: Outcome) -> None:
        """Where a receiver is, it keeps itself."""

    def detached(self, link: OutgoingLink) -> None:
        """The receiver has gone."""
        del link
        self._link = None
        self._readers.leave(self)


def _named(level: int | None) -> str:
    return "non-epoch" if level is None else f"epoch '{level}'"
