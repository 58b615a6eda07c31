"""A connection as seen by the server: bytes in, events and bytes out, and no socket anywhere.

The stages are those of sections 2.2 and 5.3 of the standard: the SASL header, the SASL exchange,
the AMQP header, open, and then sessions. Whatever a peer does wrong ends its own connection,
session or link, with the condition that the standard gives, and nothing else.
"""

import enum
import logging
from dataclasses import dataclass

from edgekit_sim.amqp import sasl
from edgekit_sim.amqp.composites import Begin, Close, Composite, End, Open, error_of
from edgekit_sim.amqp.errors import AmqpError, ConnectionFault
from edgekit_sim.amqp.events import Event, Opened, Sendable
from edgekit_sim.amqp.frames import (
    AMQP,
    EMPTY_FRAME,
    MINIMUM,
    SASL,
    Frame,
    FrameReader,
    write_frame,
)
from edgekit_sim.amqp.sessions import Session

logger = logging.getLogger(__name__)

AMQP_HEADER = b"AMQP\x00\x01\x00\x00"
SASL_HEADER = b"AMQP\x03\x01\x00\x00"


@dataclass(frozen=True)
class Limits:
    """What a connection takes.

    Attributes:
        frame: bytes of a frame.
        message: bytes of a message.
        partial: bytes kept of messages that have not come to their end, over all links.
        sessions: of one connection.
        opening: seconds until it must be open.
        idle: seconds without a frame after which the peer is taken for dead.
    """

    frame: int = 65536
    message: int = 1024 * 1024
    partial: int = 4 * 1024 * 1024
    sessions: int = 256
    opening: float = 30.0
    idle: float = 240.0

    def __post_init__(self) -> None:
        if self.frame < MINIMUM:
            raise ValueError(f"everybody must take frames of {MINIMUM} bytes")


class Stage(enum.Enum):
    """How far a connection has come."""

    HEADER = enum.auto()
    SASL = enum.auto()
    AMQP_HEADER = enum.auto()
    OPENING = enum.auto()
    OPEN = enum.auto()
    CLOSING = enum.auto()  # we have said close, and wait for the peer to
    CLOSED = enum.auto()


class Connection:
    """The server's end of one connection.

    Args:
        container: the server's name.
        authenticate: says whether a client may go on after SASL.
        now: the time in seconds, of a clock that never goes back.
        limits: what it takes.

    Attributes:
        stage: how far it has come; when it is CLOSED the output is still to be sent.
        frame_limit: bytes of the largest frame that the peer takes.
        message_limit: bytes of the largest message that we take.
        writable: set False by whoever carries the bytes while they pile up; messages then wait.
    """

    def __init__(
        self,
        container: str,
        authenticate: sasl.Authenticate,
        now: float,
        limits: Limits | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.stage = Stage.HEADER
        self.frame_limit = MINIMUM
        self.message_limit = self.limits.message
        self.writable = True
        self._container = container
        self._authenticate = authenticate
        self._reader = FrameReader(MINIMUM)
        self._sessions: dict[int, Session] = {}
        self._events: list[Event] = []
        self._out: list[bytes] = []
        self._began = self._heard = self._said = now
        self._remote_idle = float("inf")

    # ---- for whoever carries the bytes

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Take bytes from the peer.

        Returns:
            What the application has to know, in order. `link.accept` and the like may be called
            meanwhile or later; what that writes comes out of `output`.
        """
        self._heard = now
        self._reader.feed(data)
        try:
            while self.stage is not Stage.CLOSED and self._step():
                continue
        except ConnectionFault as error:
            self.fail(error)
        return self._take_events()

    def output(self) -> bytes:
        """The bytes to send to the peer now."""
        out = b"".join(self._out)
        self._out.clear()
        return out

    def resume(self) -> list[Event]:
        """The bytes no longer pile up: which links can send again."""
        self.writable = True
        for session in self._sessions.values():
            self._events += [Sendable(one) for one in session.outgoing if one.sendable]
        return self._take_events()

    def tick(self, now: float) -> list[Event]:
        """Do what time asks for: show that we are alive, close what is dead."""
        if self.stage in (Stage.OPEN, Stage.CLOSING):
            if now - self._heard >= self.limits.idle:
                reason = f"no frame for {self.limits.idle:.0f} s"
                self.fail(ConnectionFault("amqp:resource-limit-exceeded", reason))
                self.stage = Stage.CLOSED
            elif now - self._said >= self._remote_idle / 2:
                self._said = now
                self._out.append(EMPTY_FRAME)
        elif now - self._began >= self.limits.opening:
            self.stage = Stage.CLOSED
        return self._take_events()

    def next_tick(self, now: float) -> float:
        """In how many seconds `tick` should be called."""
        if self.stage not in (Stage.OPEN, Stage.CLOSING):
            return max(0.0, self._began + self.limits.opening - now)
        due = min(self._heard + self.limits.idle, self._said + self._remote_idle / 2)
        return max(0.0, due - now)

    def lost(self) -> list[Event]:
        """The peer has gone without a word."""
        self._end_sessions()
        self.stage = Stage.CLOSED
        return self._take_events()

    # ---- for the application

    def fail(self, error: AmqpError) -> None:
        """Close the connection from our side, with a reason."""
        logger.info("closing an AMQP connection: %s", error)
        if self.stage is Stage.OPEN:
            self.send(0, Close(error_of(error).described()))
            self.stage = Stage.CLOSING
        else:
            self.stage = Stage.CLOSED
        if isinstance(error, ConnectionFault):
            self.stage = Stage.CLOSED
        self._end_sessions()

    # ---- for sessions and links

    def emit(self, event: Event) -> None:
        """Tell the application."""
        self._events.append(event)

    def send(self, channel: int, body: Composite, payload: bytes = b"") -> None:
        """Write a frame, unless all is over."""
        if self.stage not in (Stage.CLOSING, Stage.CLOSED):
            self._said = self._heard
            self._out.append(write_frame(AMQP, channel, body, payload))

    # ---- stages

    def _step(self) -> bool:
        """Take one header or frame; False when there is none."""
        if self.stage in (Stage.HEADER, Stage.AMQP_HEADER):
            header = self._reader.header()
            if header is None:
                return False
            self._header(header)
            return True
        frame = self._reader.frame()
        if frame is None:
            return False
        if self.stage is Stage.SASL:
            self._sasl(frame)
        elif frame.kind != AMQP:
            raise ConnectionFault("amqp:not-allowed", "a SASL frame after the exchange")
        elif frame.body is not None:
            self._frame(frame.channel, frame.body, frame.payload)
        self._check_partial()
        return True

    def _header(self, header: bytes) -> None:
        expected = SASL_HEADER if self.stage is Stage.HEADER else AMQP_HEADER
        self._out.append(expected)
        if header != expected:  # the peer is told what would have been right (2.2)
            self.stage = Stage.CLOSED
        elif self.stage is Stage.HEADER:
            self._out.append(write_frame(SASL, 0, sasl.offer()))
            self._reader.limit = self.limits.frame  # uamqp puts no limit to its SASL frames
            self.stage = Stage.SASL
        else:
            self.stage = Stage.OPENING

    def _sasl(self, frame: Frame) -> None:
        if frame.kind != SASL or frame.body is None:
            raise ConnectionFault("amqp:not-allowed", "a frame before SASL has ended")
        outcome = sasl.answer(frame.body, self._authenticate)
        self._out.append(write_frame(SASL, 0, outcome))
        self.stage = Stage.AMQP_HEADER if outcome.outcome == sasl.OK else Stage.CLOSED

    def _frame(self, channel: int, body: Composite, payload: bytes) -> None:
        if self.stage is Stage.OPENING:
            self._open(body)
        elif isinstance(body, Close):
            self.send(0, Close())
            self.stage = Stage.CLOSED
            self._end_sessions()
        elif self.stage is Stage.CLOSING:
            return  # the peer has not seen our close yet
        elif isinstance(body, Begin):
            self._begin(channel, body)
        elif isinstance(body, End):
            self._end(channel)
        else:
            session = self._sessions.get(channel)
            if session is None:
                raise ConnectionFault("amqp:not-allowed", f"no session has channel {channel}")
            session.handle(body, payload)

    def _open(self, body: Composite) -> None:
        if not isinstance(body, Open):
            raise ConnectionFault("amqp:not-allowed", "the first frame is not open")
        self.frame_limit = max(MINIMUM, min(body.max_frame_size, self.limits.frame))
        if body.idle_time_out:
            self._remote_idle = max(body.idle_time_out / 1000, 1.0)
        self.stage = Stage.OPEN
        self.send(
            0,
            Open(
                container_id=self._container,
                max_frame_size=self.limits.frame,
                channel_max=self.limits.sessions - 1,
                idle_time_out=int(self.limits.idle * 1000 / 2),
            ),
        )
        self.emit(Opened(body.hostname))

    def _begin(self, channel: int, begin: Begin) -> None:
        if channel >= self.limits.sessions:
            raise ConnectionFault("amqp:connection:framing-error", "a channel over the limit")
        if channel in self._sessions:
            raise ConnectionFault("amqp:not-allowed", f"channel {channel} has a session already")
        if begin.remote_channel is not None:
            raise ConnectionFault("amqp:not-allowed", "a session that answers none of ours")
        session = Session(self, channel, begin)
        self._sessions[channel] = session
        session.begun()

    def _end(self, channel: int) -> None:
        session = self._sessions.pop(channel, None)
        if session is None:
            raise ConnectionFault("amqp:not-allowed", f"no session has channel {channel}")
        session.lost()
        if not session.ended:
            self.send(channel, End())

    def _check_partial(self) -> None:
        kept = sum(session.partial for session in self._sessions.values())
        if kept > self.limits.partial:
            raise ConnectionFault("amqp:resource-limit-exceeded", "too much of unfinished messages")

    def _end_sessions(self) -> None:
        for session in self._sessions.values():
            session.lost()
        self._sessions.clear()

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events
