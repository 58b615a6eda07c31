"""A connection, byte for byte, with a client that is as simple as the standard allows."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgekit_sim.amqp import sasl
from edgekit_sim.amqp.composites import (
    Accepted,
    Attach,
    Begin,
    Close,
    Composite,
    Detach,
    Disposition,
    End,
    Error,
    Flow,
    Open,
    Rejected,
    SaslInit,
    SaslMechanisms,
    SaslOutcome,
    Source,
    Target,
    Transfer,
    read_composite,
)
from edgekit_sim.amqp.connection import AMQP_HEADER, SASL_HEADER, Connection, Limits, Stage
from edgekit_sim.amqp.encode import encode
from edgekit_sim.amqp.errors import AmqpError
from edgekit_sim.amqp.events import Attached, Delivered, Detached, Event, Opened, Sendable, Settled
from edgekit_sim.amqp.frames import AMQP, EMPTY_FRAME, SASL, Frame, FrameReader, write_frame
from edgekit_sim.amqp.links import CREDIT, IncomingLink, OutgoingLink
from edgekit_sim.amqp.sasl import Credentials
from edgekit_sim.amqp.sessions import WINDOW

MIB = 1024 * 1024


class Client:
    """The other end: keeps what the server said, and says what it is told to."""

    def __init__(
        self,
        authenticate: Callable[[Credentials], bool] = lambda _credentials: True,
        limits: Limits | None = None,
    ) -> None:
        self.server = Connection("hub", authenticate, 0.0, limits)
        self.events: list[Event] = []
        self.frames: list[Frame] = []
        self.now = 0.0
        self._reader = FrameReader(MIB)

    def raw(self, data: bytes) -> None:
        self.events += self.server.receive(data, self.now)

    def say(
        self, body: Composite, payload: bytes = b"", channel: int = 0, kind: int = AMQP
    ) -> None:
        self.raw(write_frame(kind, channel, body, payload))

    def hear(self) -> list[Any]:
        """What the server has said since the last time."""
        out = self.server.output()
        for header in (SASL_HEADER, AMQP_HEADER):
            out = out.replace(header, b"")
        self._reader.feed(out)
        heard = []
        while (frame := self._reader.frame()) is not None:
            self.frames.append(frame)
            heard.append(frame.body)
        return heard

    def open(self, **fields: Any) -> None:
        self.raw(SASL_HEADER)
        self.say(SaslInit(sasl.ANONYMOUS), kind=SASL)
        self.raw(AMQP_HEADER)
        self.say(Open("client", **fields))
        self.hear()

    def begin(self, window: int = 1000) -> None:
        self.say(Begin(None, 0, window, window))

    def begun(self, **fields: Any) -> "Client":
        self.open(**fields)
        self.begin()
        self.hear()
        return self

    def receiver(self, handle: int = 0, mode: int = 0) -> OutgoingLink:
        """A link on which the server sends, accepted by it."""
        self.say(Attach(f"r{handle}", handle, True, mode, source=Source("events"), target=Target()))
        return self._accepted(OutgoingLink)

    def sender(self, handle: int = 0) -> IncomingLink:
        """A link on which the client sends, accepted by the server."""
        self.say(
            Attach(
                f"s{handle}",
                handle,
                False,
                source=Source(),
                target=Target("commands"),
                initial_delivery_count=0,
            )
        )
        return self._accepted(IncomingLink)

    def _accepted(self, kind: type[Any]) -> Any:
        attached = self.events.pop()
        assert isinstance(attached, Attached)
        assert isinstance(attached.link, kind)
        attached.link.state = "a node"
        attached.link.accept()
        self.hear()
        return attached.link

    def credit(self, credit: int, handle: int = 0, count: int = 0, **fields: Any) -> None:
        self.say(Flow(0, 1000, 0, 1000, handle, count, credit, **fields))

    def take_events(self) -> list[Event]:
        events, self.events = self.events, []
        return events


def condition(body: Any) -> str:
    """The condition in a close, end, detach or outcome."""
    error = read_composite(body.error)
    assert isinstance(error, Error)
    return error.condition


def test_the_way_to_an_open_connection() -> None:
    client = Client()
    client.raw(SASL_HEADER)
    (mechanisms,) = client.hear()
    assert isinstance(mechanisms, SaslMechanisms)
    assert mechanisms.mechanisms.items == sasl.MECHANISMS
    client.say(SaslInit(sasl.MSSBCBS), kind=SASL)
    assert client.hear() == [SaslOutcome(sasl.OK)]
    client.raw(AMQP_HEADER)
    client.say(Open("client", hostname="hub.local"))
    (opened,) = client.hear()
    assert (opened.container_id, opened.max_frame_size) == ("hub", 65536)
    assert client.events == [Opened("hub.local")]
    client.begin()
    (begun,) = client.hear()
    assert (begun.remote_channel, begun.incoming_window) == (0, WINDOW)
    client.say(End())
    assert client.hear() == [End()]
    client.say(Close())
    assert client.hear() == [Close()]
    assert client.server.stage is Stage.CLOSED


def test_bytes_may_come_one_by_one() -> None:
    whole, piecewise = Client(), Client()
    script = SASL_HEADER + write_frame(SASL, 0, SaslInit(sasl.ANONYMOUS)) + AMQP_HEADER
    script += write_frame(AMQP, 0, Open("client")) + write_frame(AMQP, 0, Begin(None, 0, 10, 10))
    whole.raw(script)
    for byte in script:
        piecewise.raw(bytes((byte,)))
    assert whole.server.output() == piecewise.server.output()
    assert whole.events == piecewise.events == [Opened(None)]


@pytest.mark.parametrize(
    ("mechanism", "response", "seen"),
    [
        (sasl.ANONYMOUS, b"anyone", Credentials(sasl.ANONYMOUS)),
        (sasl.EXTERNAL, b"", Credentials(sasl.EXTERNAL)),
        (sasl.MSSBCBS, None, Credentials(sasl.MSSBCBS)),
        (sasl.PLAIN, b"\0owner\0secret", Credentials(sasl.PLAIN, "owner", "secret")),
    ],
)
def test_what_sasl_tells_of_the_client(
    mechanism: str, response: bytes | None, seen: Credentials
) -> None:
    told: list[Credentials] = []
    client = Client(lambda credentials: bool(told.append(credentials)))
    client.raw(SASL_HEADER)
    client.say(SaslInit(mechanism, response), kind=SASL)
    assert told == [seen]
    assert client.hear()[-1] == SaslOutcome(sasl.NOT_PROVED)
    assert client.server.stage is Stage.CLOSED
    assert "secret" not in repr(seen)


@pytest.mark.parametrize(
    "init",
    [SaslInit("SCRAM"), SaslInit(sasl.PLAIN, b"\0owner"), SaslInit(sasl.PLAIN, b"\0\xff\0x")],
)
def test_sasl_that_was_not_offered(init: SaslInit) -> None:
    client = Client()
    client.raw(SASL_HEADER)
    client.say(init, kind=SASL)
    assert client.hear()[-1] == SaslOutcome(sasl.NOT_PROVED)
    assert client.server.stage is Stage.CLOSED


@pytest.mark.parametrize("header", [AMQP_HEADER, b"GET / HT", b"AMQP\2\1\0\0", b"AMQP\3\0\x09\1"])
def test_another_protocol_is_told_ours(header: bytes) -> None:
    client = Client()
    client.raw(header)
    assert client.server.output() == SASL_HEADER
    assert client.server.stage is Stage.CLOSED


def test_a_link_that_is_refused() -> None:
    client = Client().begun()
    client.say(Attach("r", 0, True, source=Source("nothing"), target=Target("here")))
    (attached,) = [e for e in client.events if isinstance(e, Attached)]
    assert attached.link.address == "nothing"
    attached.link.refuse(AmqpError("amqp:not-found", "nothing is there"))
    answer, detach = client.hear()
    assert (answer.source, answer.role) == (None, False)
    assert (detach.closed, condition(detach)) == (True, "amqp:not-found")
    client.say(Flow(0, 10, 0, 10, 0, 0, 10))  # sent before the client saw the detach
    client.say(Detach(0, True))
    assert client.hear() == []
    client.receiver(0)  # the handle is free again


def test_messages_go_out_as_far_as_credit_goes() -> None:
    client = Client().begun()
    link = client.receiver()
    assert not link.sendable
    client.credit(2)
    assert client.take_events()[-1:] == [Sendable(link)]
    link.send(b"one", b"t1", settled=True)
    link.send(b"two", b"t2")
    assert not link.sendable
    client.hear()
    first, second = client.frames[-2:]
    assert (first.payload, first.body.settled, first.body.delivery_tag) == (b"one", True, b"t1")
    assert (second.payload, second.body.settled, second.body.delivery_id) == (b"two", False, 1)
    client.credit(3, count=1)  # the client has seen only one of the two so far
    assert link.credit == 2


def test_a_message_larger_than_a_frame() -> None:
    client = Client().begun(max_frame_size=512)
    link = client.receiver()
    client.credit(1)
    data = bytes(range(256)) * 8
    link.send(data, b"t")
    client.hear()
    pieces = [f for f in client.frames if isinstance(f.body, Transfer)]
    assert b"".join(piece.payload for piece in pieces) == data
    assert [piece.body.more for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    assert {piece.body.delivery_id for piece in pieces} == {0}
    assert all(len(write_frame(AMQP, 0, f.body, f.payload)) <= 512 for f in pieces)


def test_transfers_wait_for_the_window_of_the_session() -> None:
    client = Client()
    client.open(max_frame_size=512)
    client.begin(window=2)
    client.hear()
    link = client.receiver()
    client.say(Flow(1, 2, 0, 10, 0, 0, 10))
    link.send(b"x" * 2000, b"t", settled=True)
    assert not link.sendable
    client.hear()
    sent = [f for f in client.frames if isinstance(f.body, Transfer)]
    assert len(sent) == 2
    client.take_events()
    client.say(Flow(3, 10, 0, 10))
    client.hear()
    sent = [f for f in client.frames if isinstance(f.body, Transfer)]
    assert sum(len(f.payload) for f in sent) == 2000
    assert client.take_events() == [Sendable(link)]


def test_nothing_goes_out_while_bytes_pile_up() -> None:
    client = Client().begun()
    link = client.receiver()
    client.credit(5)
    client.server.writable = False
    assert not link.sendable
    assert client.server.resume() == [Sendable(link)]


def test_draining_gives_the_credit_back() -> None:
    client = Client().begun()
    link = client.receiver()
    client.credit(5, drain=True)
    link.send(b"the only one", b"t", settled=True)
    link.drained()
    flow = client.hear()[-1]
    assert (flow.delivery_count, flow.link_credit, link.credit) == (5, 0, 0)


def test_outcomes_come_back() -> None:
    client = Client().begun()
    link = client.receiver()
    client.credit(4)
    for tag in (b"a", b"b", b"c", b"d"):
        link.send(b"m", tag)
    client.take_events()
    client.say(Disposition(True, 0, 1, True, Accepted()))
    client.say(Disposition(True, 2, None, False, Rejected()))
    assert client.take_events() == [
        Settled(link, b"a", Accepted()),
        Settled(link, b"b", Accepted()),
        Settled(link, b"c", Rejected()),
    ]
    client.hear()
    assert client.frames[-1].body.settled  # the third one waited for us to settle it
    client.say(Disposition(True, 0, 0xFFFFFFFF, True, Accepted()))
    client.say(Detach(0, True))
    assert client.take_events() == [Detached(link)]


def test_a_message_comes_in_in_pieces() -> None:
    client = Client().begun()
    link = client.sender()
    client.say(Transfer(0, 7, b"t", 0, False, True), b"one ")
    client.say(Transfer(0, more=True), b"two ")
    client.say(Transfer(0), b"three")
    (delivered,) = [e for e in client.events if isinstance(e, Delivered)]
    assert (delivered.delivery_id, delivered.data) == (7, b"one two three")
    link.settle(7)
    disposition = client.hear()[-1]
    assert (disposition.first, disposition.settled) == (7, True)
    assert read_composite(disposition.state) == Accepted()
    link.settle(7)
    assert client.hear() == []


def test_an_aborted_message_never_was() -> None:
    client = Client().begun()
    client.sender()
    client.say(Transfer(0, 0, b"t", more=True), b"half")
    client.say(Transfer(0, aborted=True))
    client.say(Transfer(0, 1, b"u"), b"whole")
    assert [e.data for e in client.events if isinstance(e, Delivered)] == [b"whole"]


def test_credit_is_given_again_when_messages_are_settled() -> None:
    client = Client().begun()
    link = client.sender()
    for number in range(CREDIT):
        client.say(Transfer(0, number, b"t"), b"m")
    assert client.hear() == []
    for number in range(CREDIT):
        link.settle(number)
    given = [body.link_credit for body in client.hear() if isinstance(body, Flow)]
    assert sum(given) >= CREDIT
    assert max(given) <= CREDIT


def test_sending_without_credit_ends_the_link_only() -> None:
    client = Client().begun()
    link, other = client.sender(0), client.sender(1)
    for number in range(CREDIT + 1):
        client.say(Transfer(0, number, b"t"), b"m")
    detach = client.hear()[-1]
    assert condition(detach) == "amqp:link:transfer-limit-exceeded"
    assert (link.attached, other.attached) == (False, True)
    assert client.events[-1] == Detached(link)
    client.say(Transfer(1, CREDIT + 1, b"t"), b"still here")
    assert isinstance(client.events[-1], Delivered)


def test_a_message_that_is_too_large_ends_the_link() -> None:
    client = Client(limits=Limits(message=1000)).begun()
    link = client.sender()
    client.say(Transfer(0, 0, b"t", more=True), b"x" * 600)
    client.say(Transfer(0, more=True), b"x" * 600)
    assert condition(client.hear()[-1]) == "amqp:link:message-size-exceeded"
    assert (link.attached, link.partial) == (False, 0)


def test_unfinished_messages_have_a_limit_over_all_links() -> None:
    client = Client(limits=Limits(partial=2000)).begun()
    for handle in range(4):
        client.sender(handle)
    for handle in range(4):
        client.say(Transfer(handle, handle, b"t", more=True), b"x" * 600)
    assert condition(client.hear()[-1]) == "amqp:resource-limit-exceeded"
    assert client.server.stage is Stage.CLOSED


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (Transfer(9, 0, b"t"), "amqp:session:unattached-handle"),
        (Flow(0, 1, 0, 1, 9), "amqp:session:unattached-handle"),
        (Detach(9, True), "amqp:session:unattached-handle"),
        (Attach("again", 0, True, source=Source("events")), "amqp:session:handle-in-use"),
        (Transfer(0, 0, b"t"), "amqp:session:errant-link"),
    ],
)
def test_what_ends_a_session(body: Composite, expected: str) -> None:
    client = Client().begun()
    link = client.receiver()
    client.say(body)
    end = client.hear()[-1]
    assert isinstance(end, End)
    assert condition(end) == expected
    assert client.events[-1] == Detached(link)
    client.say(Transfer(0, 0, b"t"))  # on its way when we ended it
    client.say(End())
    assert client.hear() == []
    client.begin()
    assert isinstance(client.hear()[-1], Begin)


@pytest.mark.parametrize(
    ("body", "channel", "expected"),
    [
        (Open("again"), 0, "amqp:not-allowed"),
        (Begin(None, 0, 1, 1), 0, "amqp:not-allowed"),
        (Begin(5, 0, 1, 1), 1, "amqp:not-allowed"),
        (Begin(None, 0, 1, 1), 60000, "amqp:connection:framing-error"),
        (End(), 3, "amqp:not-allowed"),
        (Flow(0, 1, 0, 1), 3, "amqp:not-allowed"),
        (SaslInit(sasl.ANONYMOUS), 0, "amqp:not-allowed"),
        (Transfer(0, None, None), 0, "amqp:decode-error"),
    ],
)
def test_what_ends_the_connection(body: Composite, channel: int, expected: str) -> None:
    client = Client().begun()
    link = client.sender()
    client.say(body, channel=channel)
    close = client.hear()[-1]
    assert isinstance(close, Close)
    assert condition(close) == expected
    assert client.events[-1] == Detached(link)
    assert client.server.stage is Stage.CLOSED


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\xff\xff\xff\xff\x02\0\0\0", "amqp:connection:framing-error"),
        (b"\0\0\0\x04\x02\0\0\0", "amqp:connection:framing-error"),
        (b"\0\0\0\x08\x03\0\0\0", "amqp:connection:framing-error"),
        (b"\0\0\0\x08\x02\x07\0\0", "amqp:connection:framing-error"),
        (b"\0\0\0\x09\x02\0\0\0\x40", "amqp:decode-error"),
        (b"\0\0\0\x0c\x02\0\0\0\0\x53\x99\x45", "amqp:decode-error"),
        (b"\0\0\0\x0c\x02\0\0\0\0\x53\x11\x45", "amqp:decode-error"),
        (b"\0\0\0\x0b\x02\0\0\0\0\x53\x11", "amqp:decode-error"),
    ],
)
def test_frames_that_are_none(data: bytes, expected: str) -> None:
    client = Client().begun()
    client.raw(data)
    assert condition(client.hear()[-1]) == expected
    assert client.server.stage is Stage.CLOSED


def test_a_silent_peer_is_dropped_and_we_are_not_silent() -> None:
    client = Client(limits=Limits(idle=60.0)).begun(idle_time_out=10_000)
    assert client.server.next_tick(0.0) == 5.0
    client.server.tick(4.0)
    assert client.server.output() == b""
    client.server.tick(5.0)
    assert client.server.output() == EMPTY_FRAME
    client.now = 50.0
    client.raw(EMPTY_FRAME)
    client.server.tick(109.0)
    assert client.server.stage is Stage.OPEN
    client.server.tick(110.0)
    assert client.server.stage is Stage.CLOSED


def test_a_peer_that_never_opens_is_dropped() -> None:
    client = Client(limits=Limits(opening=30.0))
    client.raw(SASL_HEADER)
    assert client.server.next_tick(10.0) == 20.0
    client.server.tick(30.0)
    assert client.server.stage is Stage.CLOSED


def test_a_peer_that_vanishes_takes_its_links_along() -> None:
    client = Client().begun()
    link = client.receiver()
    client.credit(1)
    link.send(b"m", b"t")
    assert client.server.lost() == [Detached(link)]
    assert not link.attached
    link.detach()
    assert client.hear()[-1:] != [Detach(0, True)]


performatives = st.one_of(
    st.builds(Begin, st.none() | st.integers(0, 3), *[st.integers(0, 50)] * 3),
    st.builds(
        Attach,
        st.text(max_size=3),
        st.integers(0, 5),
        st.booleans(),
        st.integers(0, 3),
        st.integers(0, 2),
        st.none() | st.just(Source("a")),
        st.none() | st.just(Target("b")),
    ),
    st.builds(
        Flow,
        st.none() | st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
        st.integers(0, 5),
        st.none() | st.integers(0, 5),
        st.none() | st.integers(0, 2**32 - 1),
        st.none() | st.integers(0, 2**32 - 1),
        drain=st.booleans(),
        echo=st.booleans(),
    ),
    st.builds(
        Transfer,
        st.integers(0, 5),
        st.none() | st.integers(0, 2**32 - 1),
        st.none() | st.binary(max_size=4),
        settled=st.booleans(),
        more=st.booleans(),
        aborted=st.booleans(),
    ),
    st.builds(
        Disposition,
        st.booleans(),
        st.integers(0, 2**32 - 1),
        st.none() | st.integers(0, 2**32 - 1),
        st.booleans(),
        st.none() | st.just(Accepted()) | st.just(Rejected()),
    ),
    st.builds(Detach, st.integers(0, 5), st.booleans()),
    st.just(End()),
)


class AnyPeer(RuleBasedStateMachine):
    """A peer that says anything at any time; the application accepts, sends and settles."""

    def __init__(self) -> None:
        super().__init__()
        self.client = Client().begun()
        self.attached: set[Any] = set()

    @rule(body=performatives, channel=st.integers(0, 1), payload=st.binary(max_size=20))
    def says(self, body: Composite, channel: int, payload: bytes) -> None:
        if self.client.server.stage is Stage.CLOSED:
            self.client = Client().begun()
            self.attached.clear()
        self.client.say(body, payload, channel)
        self.obey()

    @rule()
    def begins_anew(self) -> None:
        self.client = Client().begun()
        self.attached.clear()

    def obey(self) -> None:
        for event in self.client.take_events():
            if isinstance(event, Attached):
                event.link.state = "a node"
                event.link.accept()
                self.attached.add(event.link)
            elif isinstance(event, Delivered):
                event.link.settle(event.delivery_id)
            elif isinstance(event, Sendable):
                for _ in range(3):
                    if event.link.sendable:
                        event.link.send(b"m" * 600, b"t")
                event.link.drained()
            elif isinstance(event, Detached):
                self.attached.remove(event.link)

    @invariant()
    def links_are_either_there_or_gone(self) -> None:
        assert all(link.attached for link in self.attached)

    @invariant()
    def what_the_server_says_can_be_read(self) -> None:
        self.client.hear()


AnyPeer.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestAnyPeer = AnyPeer.TestCase


@given(st.binary(max_size=300))
def test_any_bytes_after_open(data: bytes) -> None:
    client = Client().begun()
    client.raw(data)
    client.hear()


@given(performatives, st.data())
def test_a_broken_frame_ends_at_most_its_connection(body: Composite, data: Any) -> None:
    client = Client().begun()
    broken = bytearray(write_frame(AMQP, 0, body, encode("payload")))
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(8, len(broken) - 1))] = data.draw(st.integers(0, 255))
    client.raw(bytes(broken))
    client.hear()
    assert client.server.lost() is not None
