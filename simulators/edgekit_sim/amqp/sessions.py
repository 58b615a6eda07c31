"""Sessions: windows of transfers in both directions, and the links inside."""

from collections import deque
from typing import Any, Protocol

from edgekit_sim.amqp import sequence
from edgekit_sim.amqp.composites import (
    Accepted,
    Attach,
    Begin,
    Composite,
    Detach,
    Disposition,
    End,
    Flow,
    Transfer,
    error_of,
    read_outcome,
)
from edgekit_sim.amqp.errors import AmqpError, ConnectionFault, SessionError
from edgekit_sim.amqp.events import Attached, Delivered, Detached, Event, Sendable, Settled
from edgekit_sim.amqp.links import IncomingLink, Link, OutgoingLink

WINDOW = 2048  # transfers a session takes before it must say that it takes more
LINKS_LIMIT = 256  # of one session
FIRST_ID = 1
TRANSFER_HEAD = 128  # bytes of a frame and a transfer performative without the payload, at most


class Connection(Protocol):
    """What a session needs of the connection it is in."""

    frame_limit: int
    message_limit: int
    writable: bool

    def send(self, channel: int, body: Composite, payload: bytes = b"") -> None:
        """Write a frame."""

    def emit(self, event: Event) -> None:
        """Tell the application."""


class Session:
    """One session.

    Args:
        connection: its connection.
        channel: its number, which we use in our direction, too.
        begin: how the peer began it.

    Attributes:
        ended: whether we have ended it and wait for the peer to see that.
        shared: anything the application keeps for the links of this session together.
    """

    def __init__(self, connection: Connection, channel: int, begin: Begin) -> None:
        self.channel = channel
        self.ended = False
        self.shared: dict[str, Any] = {}
        self._connection = connection
        self._links: dict[int, Link] = {}
        self._next_incoming = begin.next_outgoing_id
        self._incoming_window = WINDOW
        self._next_outgoing = FIRST_ID
        self._remote_window = begin.incoming_window
        self._next_delivery = 0
        self._waiting: deque[tuple[Transfer, bytes]] = deque()
        self._unsettled: dict[int, tuple[OutgoingLink, bytes]] = {}

    def begun(self) -> None:
        """Answer the peer's begin."""
        self.send(
            Begin(
                remote_channel=self.channel,
                next_outgoing_id=FIRST_ID,
                incoming_window=WINDOW,
                outgoing_window=WINDOW,
                handle_max=LINKS_LIMIT - 1,
            )
        )

    @property
    def message_limit(self) -> int:
        """Bytes of the largest message."""
        return self._connection.message_limit

    @property
    def clear(self) -> bool:
        """Whether a transfer can go out at once."""
        return not self._waiting and self._remote_window > 0 and self._connection.writable

    @property
    def partial(self) -> int:
        """Bytes kept of messages that have not come to their end."""
        return sum(one.partial for one in self._links.values() if isinstance(one, IncomingLink))

    @property
    def outgoing(self) -> list[OutgoingLink]:
        """The links on which we send."""
        return [one for one in self._links.values() if isinstance(one, OutgoingLink)]

    def send(self, body: Composite, payload: bytes = b"") -> None:
        """Write a frame."""
        self._connection.send(self.channel, body, payload)

    def flow(self, **link: Any) -> Flow:
        """Where the session stands, and a link of it."""
        return Flow(
            next_incoming_id=self._next_incoming,
            incoming_window=self._incoming_window,
            next_outgoing_id=self._next_outgoing,
            outgoing_window=WINDOW,
            **link,
        )

    def send_message(self, link: OutgoingLink, data: bytes, tag: bytes, settled: bool) -> None:
        """Send a message in as many transfers as it needs, as far as the peer's window goes."""
        delivery = self._next_delivery
        self._next_delivery = sequence.add(delivery, 1)
        if not settled:
            self._unsettled[delivery] = (link, tag)
        room = self._connection.frame_limit - TRANSFER_HEAD
        for start in range(0, len(data) or 1, room):
            more = start + room < len(data)
            transfer = Transfer(link.handle, delivery, tag, 0, settled, more)
            self._waiting.append((transfer, data[start : start + room]))
        self._send_waiting()

    def _send_waiting(self) -> None:
        while self._waiting and self._remote_window > 0:
            self._remote_window -= 1
            self._next_outgoing = sequence.add(self._next_outgoing, 1)
            self.send(*self._waiting.popleft())

    # ---- what the peer says

    def handle(self, body: Composite, payload: bytes) -> None:
        """Take a performative of this session.

        Raises:
            ConnectionFault: it cannot be here.
        """
        if self.ended:
            return  # the peer has not seen our end yet
        try:
            if isinstance(body, Transfer):
                self._transfer(body, payload)
            elif isinstance(body, Flow):
                self._flow(body)
            elif isinstance(body, Disposition):
                self._disposition(body)
            elif isinstance(body, Attach):
                self._attach(body)
            elif isinstance(body, Detach):
                self._detach(body)
            else:
                name = type(body).__name__.lower()
                raise ConnectionFault("amqp:not-allowed", f"{name} inside a session")
        except SessionError as error:
            self.end(error)

    def end(self, error: AmqpError | None = None) -> None:
        """End the session from our side."""
        self.ended = True
        self.send(End(error_of(error) if error else None))
        self.lost()

    def lost(self) -> None:
        """The session has ended: so have its links."""
        for link in list(self._links.values()):
            self._forget(link)
        self._links.clear()
        self._waiting.clear()

    def _attach(self, attach: Attach) -> None:
        if attach.handle >= LINKS_LIMIT:
            raise ConnectionFault("amqp:connection:framing-error", "a handle over the limit")
        if attach.handle in self._links:
            raise SessionError("amqp:session:handle-in-use", f"handle {attach.handle} is in use")
        kind = OutgoingLink if attach.role else IncomingLink
        link = kind(self, attach)
        self._links[attach.handle] = link
        self._connection.emit(Attached(link))

    def _link(self, handle: int) -> Link:
        link = self._links.get(handle)
        if link is None:
            raise SessionError("amqp:session:unattached-handle", f"no link has handle {handle}")
        return link

    def _flow(self, flow: Flow) -> None:
        ours = FIRST_ID if flow.next_incoming_id is None else flow.next_incoming_id
        end = sequence.add(ours, flow.incoming_window & 0x7FFFFFFF)
        self._remote_window = max(0, sequence.distance(self._next_outgoing, end))
        self._next_incoming = flow.next_outgoing_id
        self._send_waiting()
        if flow.handle is None:
            if flow.echo:
                self.send(self.flow())
            for one in self.outgoing:
                self._offer(one)
            return
        link = self._link(flow.handle)
        if not link.attached:
            return
        if isinstance(link, OutgoingLink):
            link.flowed(flow)
            self._offer(link)
        if flow.echo and isinstance(link, OutgoingLink | IncomingLink):
            self.send(link.flow())

    def _offer(self, link: OutgoingLink) -> None:
        if link.sendable:
            self._connection.emit(Sendable(link))

    def _transfer(self, transfer: Transfer, payload: bytes) -> None:
        if self._incoming_window <= 0:
            raise SessionError("amqp:session:window-violation", "a transfer outside the window")
        self._incoming_window -= 1
        self._next_incoming = sequence.add(self._next_incoming, 1)
        if self._incoming_window < WINDOW // 2:
            self._incoming_window = WINDOW
            self.send(self.flow())
        link = self._link(transfer.handle)
        if not link.attached:
            return  # the peer has not seen our detach yet
        if not isinstance(link, IncomingLink):
            raise SessionError("amqp:session:errant-link", "a transfer on a link of ours")
        try:
            whole = link.transferred(transfer, payload)
        except ConnectionFault:
            raise
        except AmqpError as error:
            self._forget(link)
            self.send(Detach(link.handle, True, error_of(error).described()))
            return
        if whole is not None:
            self._connection.emit(Delivered(link, *whole))

    def _disposition(self, disposition: Disposition) -> None:
        if not disposition.role:
            return  # of what the peer sent: we settle first, so there is nothing left to say
        outcome = read_outcome(disposition.state)
        if outcome is None and not disposition.settled:
            return
        first = disposition.first
        last = first if disposition.last is None else disposition.last
        for delivery in self._named(first, last):
            link, tag = self._unsettled.pop(delivery)
            if not disposition.settled:
                self.send(Disposition(False, delivery, delivery, True, disposition.state))
            self._connection.emit(Settled(link, tag, outcome or Accepted()))

    def _named(self, first: int, last: int) -> list[int]:
        """The unsettled deliveries from `first` to `last`, however many numbers that are."""
        length = sequence.distance(first, last)
        if length == 0:
            return [first] if first in self._unsettled else []
        return [one for one in self._unsettled if 0 <= sequence.distance(first, one) <= length]

    def _detach(self, detach: Detach) -> None:
        link = self._link(detach.handle)
        del self._links[detach.handle]
        if link.attached:
            self.send(Detach(detach.handle, detach.closed))
            self._forget(link)

    def _forget(self, link: Link) -> None:
        """A link has gone."""
        if link.attached:
            self.release(link)
            self._connection.emit(Detached(link))

    def release(self, link: Link) -> None:
        """Nothing more goes over a link: what nobody has settled never will be."""
        link.attached = False
        if isinstance(link, IncomingLink):
            link.drop()
            return
        owned = [one for one, (owner, _) in self._unsettled.items() if owner is link]
        for delivery in owned:
            del self._unsettled[delivery]
        self._waiting = deque(one for one in self._waiting if one[0].handle != link.handle)
