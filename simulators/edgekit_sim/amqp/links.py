"""Links: one way for messages each, with the credit that the receiving end gives."""

from typing import Any, Protocol

from edgekit_sim.amqp import sequence
from edgekit_sim.amqp.composites import (
    Accepted,
    Attach,
    Composite,
    Detach,
    Disposition,
    Flow,
    Outcome,
    Source,
    Target,
    Transfer,
    error_of,
    read_composite,
)
from edgekit_sim.amqp.errors import AmqpError, Malformed
from edgekit_sim.amqp.types import Array, Described

CREDIT = 100  # messages a peer may send on a link before it has to wait
SETTLED_ONLY = 1  # the sender settle mode in which nothing waits for an outcome


class Session(Protocol):
    """What a link needs of the session it is in."""

    shared: dict[str, Any]

    @property
    def message_limit(self) -> int:
        """Bytes of the largest message."""

    @property
    def clear(self) -> bool:
        """Whether a transfer can go out at once."""

    def send(self, body: Composite) -> None:
        """Write a frame."""

    def flow(self, **link: Any) -> Flow:
        """Where the session stands, and a link of it."""

    def send_message(self, link: "OutgoingLink", data: bytes, tag: bytes, settled: bool) -> None:
        """Send a message."""

    def release(self, link: "Link") -> None:
        """Nothing more goes over a link."""


class Link:
    """One end of a link that the peer has asked for.

    Args:
        session: its session.
        attach: how the peer asked for it.

    Attributes:
        attached: whether it has been accepted and has not gone.
        state: anything the application wants to find again.
    """

    def __init__(self, session: Session, attach: Attach) -> None:
        self.session = session
        self.handle = attach.handle
        self.name = attach.name
        self.attach = attach
        self.source = _terminus(attach.source, Source)
        self.target = _terminus(attach.target, Target)
        self.attached = False
        self.state: Any = None

    @property
    def address(self) -> str:
        """The address of the terminus on our side."""
        terminus = self.target if self.attach.role is False else self.source
        return terminus.address if terminus and isinstance(terminus.address, str) else ""

    @property
    def properties(self) -> dict[str, Any]:
        """The link's properties, as the peer set them."""
        return {str(key): value for key, value in (self.attach.properties or {}).items()}

    @property
    def desired_capabilities(self) -> frozenset[str]:
        """What the peer would like the link to be capable of."""
        wanted = self.attach.desired_capabilities
        names = wanted.items if isinstance(wanted, Array) else (wanted,)
        return frozenset(str(name) for name in names if name is not None)

    def accept(self) -> None:
        """Attach our end."""
        self.attached = True
        self._answer(self.attach.source, self.attach.target)

    def refuse(self, error: AmqpError) -> None:
        """Attach our end without a terminus, and detach it: how a link is refused (2.6.3)."""
        self._answer(*self._without_ours())
        self._detach(error)

    def detach(self, error: AmqpError | None = None) -> None:
        """Take the link from the peer; no `Detached` follows."""
        if self.attached:
            self.session.release(self)
            self._detach(error)

    def _detach(self, error: AmqpError | None) -> None:
        self.session.send(Detach(self.handle, True, error_of(error) if error else None))

    def _without_ours(self) -> tuple[Any, Any]:
        if self.attach.role:
            return None, self.attach.target
        return self.attach.source, None

    def _answer(self, source: Any, target: Any) -> None:
        sends = bool(self.attach.role)
        self.session.send(
            Attach(
                name=self.name,
                handle=self.handle,
                role=not sends,
                snd_settle_mode=self.attach.snd_settle_mode,
                rcv_settle_mode=self.attach.rcv_settle_mode,
                source=source,
                target=target,
                initial_delivery_count=0 if sends else None,
                max_message_size=self.session.message_limit,
                properties=self.attach.properties,
            )
        )


class OutgoingLink(Link):
    """A link on which we send.

    Attributes:
        credit: how many more messages the peer takes now.
        presettled: whether it wants all messages settled, so that nothing comes back of them.
    """

    def __init__(self, session: Session, attach: Attach) -> None:
        super().__init__(session, attach)
        self.credit = 0
        self.presettled = attach.snd_settle_mode == SETTLED_ONLY
        self._count = 0
        self._drain = False

    @property
    def sendable(self) -> bool:
        """Whether a message can go out now: credit, and nothing that holds the session up."""
        return self.attached and self.credit > 0 and self.session.clear

    def send(self, data: bytes, tag: bytes, settled: bool = False) -> None:
        """Send a message.

        Args:
            data: the message.
            tag: at most 32 bytes; comes back with `Settled`, unless `settled`.
            settled: nothing is to come back of it.
        """
        assert self.sendable
        self.credit -= 1
        self._count = sequence.add(self._count, 1)
        self.session.send_message(self, data, tag, settled or self.presettled)

    def drained(self) -> None:
        """There is nothing to send now: give credit back if the peer asked for that (2.6.7)."""
        if self._drain and self.credit:
            self._count = sequence.add(self._count, self.credit)
            self.credit, self._drain = 0, False
            self.session.send(self.flow())

    def flow(self) -> Flow:
        """Where this link stands."""
        return self.session.flow(
            handle=self.handle,
            delivery_count=self._count,
            link_credit=self.credit,
            drain=self._drain,
        )

    def flowed(self, flow: Flow) -> None:
        """Take the credit that the peer gives (2.6.7)."""
        theirs = flow.delivery_count if flow.delivery_count is not None else 0
        credit = sequence.distance(self._count, sequence.add(theirs, flow.link_credit or 0))
        self.credit = max(0, credit)
        self._drain = flow.drain


class IncomingLink(Link):
    """A link on which the peer sends."""

    def __init__(self, session: Session, attach: Attach) -> None:
        super().__init__(session, attach)
        self._credit = 0
        self._count = attach.initial_delivery_count or 0
        self._unsettled: set[int] = set()
        self._delivery: int | None = None
        self._settled = False
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def partial(self) -> int:
        """Bytes kept of a message that has not come to its end."""
        return self._size

    def accept(self) -> None:
        """Attach our end, and let the peer send."""
        super().accept()
        self._grant()

    def _grant(self) -> None:
        """Let the peer have as many messages under way as `CREDIT`, settled ones not counted."""
        wanted = CREDIT - len(self._unsettled)
        if wanted > self._credit and (self._credit < CREDIT // 2):
            self._credit = wanted
            self.session.send(self.flow())

    def flow(self) -> Flow:
        """Where this link stands."""
        return self.session.flow(
            handle=self.handle, delivery_count=self._count, link_credit=self._credit
        )

    def transferred(self, transfer: Transfer, payload: bytes) -> tuple[int, bytes, bool] | None:
        """Take a piece of a message.

        Returns:
            Once it is whole, its delivery id, its bytes, and whether it is settled.

        Raises:
            AmqpError: what ends the link.
        """
        if self._delivery is None:
            self._begin(transfer)
        elif transfer.delivery_id not in (None, self._delivery):
            raise Malformed("a delivery begins before the last one has ended")
        self._settled |= bool(transfer.settled)
        if transfer.aborted:
            self.drop()
            self._grant()
            return None
        self._size += len(payload)
        if self._size > self.session.message_limit:
            raise AmqpError(
                "amqp:link:message-size-exceeded",
                f"a message of more than {self.session.message_limit} bytes",
            )
        self._parts.append(payload)
        if transfer.more:
            return None
        assert self._delivery is not None
        whole = (self._delivery, b"".join(self._parts), self._settled)
        if not self._settled:
            self._unsettled.add(self._delivery)
        self.drop()
        self._grant()
        return whole

    def _begin(self, transfer: Transfer) -> None:
        if transfer.delivery_id is None or transfer.delivery_tag is None:
            raise Malformed("a delivery without an id or a tag")
        if self._credit <= 0:
            raise AmqpError("amqp:link:transfer-limit-exceeded", "a message without credit")
        self._credit -= 1
        self._count = sequence.add(self._count, 1)
        self._delivery = transfer.delivery_id

    def drop(self) -> None:
        """Forget the pieces of a message that will not come to its end."""
        self._delivery, self._settled, self._size = None, False, 0
        self._parts = []

    def settle(self, delivery_id: int, outcome: Outcome | None = None) -> None:
        """Say what became of a message (by default it was accepted), and be done with it."""
        if delivery_id in self._unsettled:
            self._unsettled.discard(delivery_id)
            if self.attached:
                state = (outcome or Accepted()).described()
                self.session.send(Disposition(True, delivery_id, delivery_id, True, state))
                self._grant()


def _terminus(value: Any, kind: type[Source] | type[Target]) -> Any:
    """The terminus of an attach; None where there is none, or one of another kind."""
    if not isinstance(value, Described):
        return None
    if value.descriptor not in (kind.code, f"amqp:{kind.__name__.lower()}:list"):
        return None
    return read_composite(value)
