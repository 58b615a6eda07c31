"""What a connection tells its application about."""

from dataclasses import dataclass

from edgekit_sim.amqp.composites import Outcome
from edgekit_sim.amqp.links import IncomingLink, Link, OutgoingLink


@dataclass(frozen=True)
class Opened:
    """The peer has opened the connection, to the host it names."""

    hostname: str | None


@dataclass(frozen=True)
class Attached:
    """The peer wants a link; the application calls its `accept` or `refuse`."""

    link: Link


@dataclass(frozen=True)
class Delivered:
    """A message has come in; unless `settled` the application calls `link.settle`."""

    link: IncomingLink
    delivery_id: int
    data: bytes
    settled: bool


@dataclass(frozen=True)
class Sendable:
    """The peer takes messages on a link, or takes them again."""

    link: OutgoingLink


@dataclass(frozen=True)
class Settled:
    """The peer is done with a message that was sent under `tag`."""

    link: OutgoingLink
    tag: bytes
    outcome: Outcome


@dataclass(frozen=True)
class Detached:
    """A link has gone, perhaps with all of its connection; what it did not settle it will not."""

    link: Link


Event = Opened | Attached | Delivered | Sendable | Settled | Detached
