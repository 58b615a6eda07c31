"""One AMQP connection: SASL, sessions, links, flow and transfers.

The engine knows nothing of an IoT Hub. What a client attaches a link to is looked up by address
with `Resolver`; a node that takes messages is a `Sink`, one that gives them a `Fountain`.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from edgekit_sim.iothub.amqp.messages import Message, decode_message, encode_message
from edgekit_sim.iothub.amqp.types import (
    Decoder,
    Described,
    Malformed,
    Symbol,
    Symbols,
    Ubyte,
    Uint,
    Ulong,
    Ushort,
    encode,
)

logger = logging.getLogger(__name__)

OPEN, BEGIN, ATTACH, FLOW, TRANSFER = 0x10, 0x11, 0x12, 0x13, 0x14
DISPOSITION, DETACH, END, CLOSE, ERROR = 0x15, 0x16, 0x17, 0x18, 0x1D
ACCEPTED, REJECTED, RELEASED, MODIFIED = 0x24, 0x25, 0x26, 0x27
SASL_MECHANISMS, SASL_INIT, SASL_OUTCOME = 0x40, 0x41, 0x44
# how many fields each performative has
_FIELDS = {
    OPEN: 10,
    BEGIN: 8,
    ATTACH: 14,
    FLOW: 11,
    TRANSFER: 11,
    DISPOSITION: 6,
    DETACH: 3,
    END: 1,
    CLOSE: 1,
}
HEADER, SASL_HEADER = b"AMQP\x00\x01\x00\x00", b"AMQP\x03\x01\x00\x00"

FRAME_LIMIT = 64 * 1024  # bytes of a frame, in both directions
MESSAGE_LIMIT = 1024 * 1024  # bytes of a message put together from frames
WINDOW = 5000  # transfers a session may have under way
CREDIT = 300  # messages a client may send before it has to wait
LINKS_LIMIT = 1000
IDLE_SECONDS = 240.0


class LinkError(Exception):
    """A link or message that is refused, with the condition the SDKs look at.

    Args:
        condition: for example `amqp:not-found`.
        description: what was wrong, one line.
    """

    def __init__(self, condition: str, description: str) -> None:
        super().__init__(description)
        self.condition = condition


class Sink(Protocol):
    """A node that takes messages."""

    async def take(self, message: Message) -> None:
        """Take a message; raises LinkError to reject it."""


class Fountain(Protocol):
    """A node that gives messages."""

    def attached(self, link: "Outlet") -> None:
        """A client listens from now on."""

    def credited(self, link: "Outlet") -> None:
        """A client is ready for `link.credit` more messages."""

    def settled(self, link: "Outlet", tag: int, outcome: int) -> None:
        """A client has settled the message it was sent under `tag`."""

    def detached(self, link: "Outlet") -> None:
        """The client listens no more."""


Resolver = Callable[["AmqpConnection", str, dict[str, Any], bool], "Sink | Fountain"]


@dataclass(eq=False)
class Inlet:
    """A link on which the client sends."""

    handle: int
    sink: Sink
    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    delivery_id: int = 0
    presettled: bool = False
    received: int = 0


@dataclass(eq=False)
class Outlet:
    """A link on which the client receives.

    Attributes:
        credit: how many more messages the client takes now.
        address: what the client asked for.
        filters: its filters by name, for example where in a stream to begin.
        properties: the link's properties.
    """

    session: "Session"
    handle: int
    fountain: Fountain
    address: str
    filters: dict[str, Any]
    properties: dict[str, Any]
    presettled: bool
    credit: int = 0
    sent: int = 0

    def send(self, message: Message, tag: int = 0, settled: bool | None = None) -> None:
        """Send a message; `tag` comes back when the client settles it."""
        presettled = self.presettled if settled is None else settled
        self.credit -= 1
        self.sent += 1
        self.session.transfer(self, encode_message(message), tag, presettled)


@dataclass(eq=False)
class Session:
    """A session: links by handle, and the ids of what is under way."""

    connection: "AmqpConnection"
    channel: int
    next_incoming: int
    next_outgoing: int = 1
    inlets: dict[int, Inlet] = field(default_factory=dict)
    outlets: dict[int, Outlet] = field(default_factory=dict)
    unsettled: dict[int, tuple[Outlet, int]] = field(default_factory=dict)

    def transfer(self, link: Outlet, data: bytes, tag: int, settled: bool) -> None:
        """Send one message, in as many frames as it needs."""
        delivery = self.next_outgoing
        if not settled:
            self.unsettled[delivery] = (link, tag)
        room = self.connection.frame_limit - 512
        pieces = [data[start : start + room] for start in range(0, len(data), room)] or [b""]
        for number, piece in enumerate(pieces):
            fields = [
                Uint(link.handle),
                Uint(delivery),
                delivery.to_bytes(8),
                Uint(0),
                settled,
                number + 1 < len(pieces),
            ]
            self.connection.frame(self.channel, TRANSFER, fields, piece)
            self.next_outgoing += 1

    def flow(self, link: Inlet | Outlet | None = None) -> None:
        """Tell the client where the session stands, and on a link how much it may send."""
        fields: list[Any] = [
            Uint(self.next_incoming),
            Uint(WINDOW),
            Uint(self.next_outgoing),
            Uint(WINDOW),
        ]
        if isinstance(link, Inlet):
            fields += [Uint(link.handle), Uint(link.received), Uint(CREDIT)]
        elif isinstance(link, Outlet):
            fields += [Uint(link.handle), Uint(link.sent), Uint(link.credit)]
        self.connection.frame(self.channel, FLOW, fields)


class AmqpConnection(asyncio.Protocol):
    """The hub's end of one AMQP connection.

    Args:
        container: the hub's name.
        resolve: finds the node of an address, or raises LinkError.

    Attributes:
        claims: what the tokens put so far allow, kept by the nodes.
        frame_limit: the largest frame the client takes.
    """

    def __init__(self, container: str, resolve: Resolver) -> None:
        self._container = container
        self._resolve = resolve
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._stage = HEADER
        self._sasl = False
        self._sessions: dict[int, Session] = {}
        self._ended: set[int] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._keep_alive: asyncio.TimerHandle | None = None
        self.claims: dict[str, Any] = {}
        self.frame_limit = FRAME_LIMIT

    # ---- transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        del exc
        self._transport = None
        if self._keep_alive is not None:
            self._keep_alive.cancel()
        for task in list(self._tasks):
            task.cancel()
        for session in list(self._sessions.values()):
            self._end(session)
        self._sessions.clear()

    def data_received(self, data: bytes) -> None:
        """Cut the bytes into frames and handle them."""
        data = self._buffer + data if self._buffer else data
        position = 0
        try:
            while self._transport is not None and len(data) - position >= 8:
                if self._stage:
                    self._header(data[position : position + 8])
                    position += 8
                    continue
                size = int.from_bytes(data[position : position + 4])
                if not 8 <= size <= FRAME_LIMIT:
                    raise Malformed(f"a frame of {size} bytes")
                if len(data) - position < size:
                    break
                self._frame(data[position : position + size])
                position += size
        except Malformed as error:
            logger.info("an AMQP client was dropped: %s", error)
            self._close("amqp:decode-error", str(error))
        self._buffer = data[position:]

    def abort(self) -> None:
        """Reset the connection."""
        if self._transport is not None:
            self._transport.abort()

    def frame(self, channel: int, code: int, fields: list[Any], payload: bytes = b"") -> None:
        """Write one frame; fields are filled up to their number, as some clients want them all."""
        padded = fields + [None] * (_FIELDS[code] - len(fields))
        self._write(0, channel, Described(Ulong(code), padded), payload)

    def _write(self, kind: int, channel: int, body: Described, payload: bytes = b"") -> None:
        data = encode(body) + payload
        head = (len(data) + 8).to_bytes(4) + bytes((2, kind)) + channel.to_bytes(2)
        if self._transport is not None:
            self._transport.write(head + data)

    # ---- frames

    def _header(self, header: bytes) -> None:
        if self._transport is None:
            return
        if header == SASL_HEADER and not self._sasl:
            self._sasl = True
            self._stage = b""
            self._transport.write(SASL_HEADER)
            offered = Symbols(["MSSBCBS", "ANONYMOUS", "EXTERNAL", "PLAIN"])
            self._write(1, 0, Described(Ulong(SASL_MECHANISMS), [offered]))
        elif header == HEADER:
            self._stage = b""
            self._transport.write(HEADER)
        else:
            self._transport.write(HEADER)
            self._transport.close()
            self._transport = None

    def _frame(self, frame: bytes) -> None:
        offset = frame[4] * 4
        if offset < 8 or offset > len(frame):
            raise Malformed("a frame header that cannot be")
        if offset == len(frame):
            return  # an empty frame keeps the connection alive
        decoder = Decoder(frame, offset)
        body = decoder.value()
        if not isinstance(body, Described) or not isinstance(body.value, list):
            raise Malformed("a frame without a performative")
        fields = body.value + [None] * (14 - len(body.value))
        if frame[5] == 1:
            if body.descriptor == SASL_INIT:
                self._write(1, 0, Described(Ulong(SASL_OUTCOME), [Ubyte(0)]))
                self._stage = HEADER
            return
        channel = int.from_bytes(frame[6:8])
        if channel in self._ended and body.descriptor not in (OPEN, BEGIN, CLOSE):
            return  # sent before the client knew that the session had ended
        handler = _HANDLERS.get(body.descriptor)
        if handler is None:
            raise Malformed(f"a performative {body.descriptor!r}")
        try:
            handler(self, channel, fields, frame[decoder.position :])
        except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
            raise Malformed(f"a performative with fields that cannot be: {error}") from error

    def _open(self, _channel: int, fields: list[Any], _payload: bytes) -> None:
        self.frame_limit = max(512 + 64, min(int(fields[2] or FRAME_LIMIT), FRAME_LIMIT))
        own = [
            self._container,
            None,
            Uint(FRAME_LIMIT),
            Ushort(255),
            Uint(int(IDLE_SECONDS * 1000)),
        ]
        self.frame(0, OPEN, own)
        if fields[4]:
            self._stay(max(0.5, int(fields[4]) / 2000))

    def _stay(self, seconds: float) -> None:
        """Send empty frames as often as the client wants to hear something."""
        if self._transport is not None:
            self._transport.write(b"\0\0\0\x08\x02\0\0\0")
            loop = asyncio.get_running_loop()
            self._keep_alive = loop.call_later(seconds, self._stay, seconds)

    def _begin(self, channel: int, fields: list[Any], _payload: bytes) -> None:
        self._ended.discard(channel)
        self._sessions[channel] = Session(self, channel, int(fields[1]))
        own = [Ushort(channel), Uint(1), Uint(WINDOW), Uint(WINDOW), Uint(LINKS_LIMIT)]
        self.frame(channel, BEGIN, own)

    def _attach(self, channel: int, fields: list[Any], _payload: bytes) -> None:
        session = self._sessions[channel]
        name, handle, receives = fields[0], int(fields[1]), bool(fields[2])
        if len(session.inlets) + len(session.outlets) >= LINKS_LIMIT:
            raise Malformed("too many links")
        terminus = fields[5] if receives else fields[6]
        described = terminus.value if isinstance(terminus, Described) else []
        address = str(described[0] or "") if described else ""
        properties = {str(key): value for key, value in (fields[13] or {}).items()}
        own: list[Any] = [
            name,
            Uint(handle),
            not receives,
            fields[3] if fields[3] is not None else Ubyte(2),
            fields[4] if fields[4] is not None else Ubyte(0),
            fields[5],
            fields[6],
            None,
            None,
            Uint(0) if receives else None,
            Ulong(MESSAGE_LIMIT),
        ]
        try:
            node = self._resolve(self, address, properties, receives)
        except LinkError as error:
            own[5 if receives else 6] = None
            self.frame(channel, ATTACH, own)
            self._detach_for(session, handle, error)
            return
        self.frame(channel, ATTACH, own)
        if receives:
            filters = described[7] if len(described) > 7 and described[7] else {}
            settled = fields[3] == 1
            fountain = cast(Fountain, node)
            outlet = Outlet(session, handle, fountain, address, filters, properties, settled)
            session.outlets[handle] = outlet
            try:
                fountain.attached(outlet)
            except LinkError as error:
                del session.outlets[handle]
                self._detach_for(session, handle, error)
        else:
            session.inlets[handle] = Inlet(handle, cast(Sink, node))
            session.flow(session.inlets[handle])

    def _detach_for(self, session: Session, handle: int, error: LinkError) -> None:
        self.frame(session.channel, DETACH, [Uint(handle), True, _error(error)])

    def detach(self, link: Outlet, error: LinkError) -> None:
        """Take a link from its client, saying why."""
        if link.session.outlets.pop(link.handle, None) is not None:
            self._detach_for(link.session, link.handle, error)
            link.fountain.detached(link)

    def _flow(self, channel: int, fields: list[Any], _payload: bytes) -> None:
        session = self._sessions[channel]
        if fields[4] is None:
            if fields[9]:
                session.flow()
            return
        link = session.outlets.get(int(fields[4]))
        if link is None:
            return
        link.credit = int(fields[5] or 0) + int(fields[6] or 0) - link.sent
        if link.credit > 0:
            link.fountain.credited(link)
        if fields[8] and link.credit > 0:  # drain: what is not there now is not wanted
            link.sent += link.credit
            link.credit = 0
            session.flow(link)
        elif fields[9]:
            session.flow(link)

    def _transfer(self, channel: int, fields: list[Any], payload: bytes) -> None:
        session = self._sessions[channel]
        link = session.inlets[int(fields[0])]
        session.next_incoming = (session.next_incoming + 1) & 0xFFFFFFFF
        if not link.parts:
            link.delivery_id, link.size = int(fields[1]), 0
            link.presettled = bool(fields[4])
        link.parts.append(payload)
        link.size += len(payload)
        if link.size > MESSAGE_LIMIT:
            raise Malformed(f"a message of more than {MESSAGE_LIMIT} bytes")
        if fields[5]:
            return
        data, link.parts = b"".join(link.parts), []
        link.received += 1
        task = asyncio.get_running_loop().create_task(
            self._take(session, link, decode_message(data), link.delivery_id, link.presettled)
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(
        self, session: Session, link: Inlet, message: Message, delivery: int, settled: bool
    ) -> None:
        outcome: Any = Described(Ulong(ACCEPTED), [])
        try:
            await link.sink.take(message)
        except LinkError as error:
            outcome = Described(Ulong(REJECTED), [_error(error)])
        if not settled:
            fields = [True, Uint(delivery), Uint(delivery), True, outcome]
            self.frame(session.channel, DISPOSITION, fields)
        session.flow(link)

    def _disposition(self, channel: int, fields: list[Any], _payload: bytes) -> None:
        session = self._sessions[channel]
        first, last = int(fields[1]), int(fields[2] if fields[2] is not None else fields[1])
        outcome = fields[4].descriptor if isinstance(fields[4], Described) else ACCEPTED
        if last - first > WINDOW:
            raise Malformed("a disposition of more than a window")
        if not fields[0]:
            return  # of what the client itself sent
        for delivery in range(first, last + 1):
            link, tag = session.unsettled.pop(delivery, (None, 0))
            if link is not None:
                link.fountain.settled(link, tag, int(outcome))
        if not fields[3]:
            own = [False, Uint(first), Uint(last), True, fields[4]]
            self.frame(channel, DISPOSITION, own)

    def _detach(self, channel: int, fields: list[Any], _payload: bytes) -> None:
        session = self._sessions[channel]
        handle = int(fields[0])
        outlet = session.outlets.pop(handle, None)
        inlet = session.inlets.pop(handle, None)
        if outlet is not None:
            self._forget(session, outlet)
        if outlet is not None or inlet is not None:
            self.frame(channel, DETACH, [Uint(handle), bool(fields[1])])

    def _forget(self, session: Session, outlet: Outlet) -> None:
        """What was sent on a link and not settled comes back to its node."""
        for delivery, (link, tag) in list(session.unsettled.items()):
            if link is outlet:
                del session.unsettled[delivery]
                outlet.fountain.settled(outlet, tag, RELEASED)
        outlet.fountain.detached(outlet)

    def _end(self, session: Session) -> None:
        for outlet in list(session.outlets.values()):
            self._forget(session, outlet)
        session.outlets.clear()

    def _end_session(self, channel: int, _fields: list[Any], _payload: bytes) -> None:
        self._end(self._sessions.pop(channel))
        self._ended.add(channel)
        self.frame(channel, END, [])

    def _close_frame(self, _channel: int, _fields: list[Any], _payload: bytes) -> None:
        self.frame(0, CLOSE, [])
        if self._transport is not None:
            self._transport.close()

    def _close(self, condition: str, description: str) -> None:
        error = LinkError(condition, description)
        self.frame(0, CLOSE, [_error(error)])
        if self._transport is not None:
            self._transport.close()


_HANDLERS: dict[Any, Callable[[AmqpConnection, int, list[Any], bytes], None]] = {
    OPEN: AmqpConnection._open,
    BEGIN: AmqpConnection._begin,
    ATTACH: AmqpConnection._attach,
    FLOW: AmqpConnection._flow,
    TRANSFER: AmqpConnection._transfer,
    DISPOSITION: AmqpConnection._disposition,
    DETACH: AmqpConnection._detach,
    END: AmqpConnection._end_session,
    CLOSE: AmqpConnection._close_frame,
}


def _error(error: LinkError) -> Described:
    return Described(Ulong(ERROR), [Symbol(error.condition), str(error)])
