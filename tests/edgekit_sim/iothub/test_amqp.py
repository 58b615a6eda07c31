"""The hub's AMQP front, told things that no SDK would say."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import Message as DeviceMessage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit_sim.amqp.composites import Close, Detach, Disposition, SaslInit, Transfer
from edgekit_sim.amqp.connection import AMQP_HEADER, SASL_HEADER
from edgekit_sim.amqp.frames import SASL, write_frame
from edgekit_sim.amqp.message import Message, Value, write_message
from edgekit_sim.amqp.sasl import ANONYMOUS, EXTERNAL, MSSBCBS, PLAIN
from edgekit_sim.amqp.types import Described, Symbol
from edgekit_sim.iothub.handle import HubHandle
from tests.edgekit_sim.iothub.amqp_client import AmqpClient, condition, token

EVENTS = "edgekit-hub/ConsumerGroups/$Default/Partitions/0"
COMMANDS = "amqps://hub/messages/devicebound"
FEEDBACK = "/messages/serviceBound/feedback"
SELECTOR = "apache.org:selector-filter:string"
EPOCH = "com.microsoft:epoch"
OUT_OF_RANGE = "com.microsoft:argument-out-of-range"

# paho leaves its wake-up sockets to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def owner(iothub: HubHandle) -> Any:
    """A client that has put the owner's token."""
    with AmqpClient(iothub) as client:
        assert client.put_token(token(iothub)) == 200
        yield client


@pytest.mark.parametrize("mechanism", [ANONYMOUS, EXTERNAL, MSSBCBS])
def test_without_a_token_nothing_is_open(iothub: HubHandle, mechanism: str) -> None:
    with AmqpClient(iothub, SaslInit(mechanism)) as client:
        for address, receives in ((EVENTS, True), (FEEDBACK, True), (COMMANDS, False)):
            assert client.attach(address, receives)[1] == "amqp:unauthorized-access"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda hub: token(hub, seconds=-10), 401),
        (lambda hub: token(hub, policy="service"), 401),
        (lambda hub: token(hub, policy="nobody"), 401),
        (lambda hub: token(hub)[:-20], 401),
        (lambda hub: token(hub).replace("iothubowner", "registryRead"), 401),
        (lambda hub: token(hub).replace("sb%3A", "sb%3A%2F%2Felsewhere"), 401),
        (lambda hub: hub.hostname, 401),
    ],
)
def test_tokens_that_open_nothing(
    iothub: HubHandle, change: Callable[[HubHandle], str], status: int
) -> None:
    with AmqpClient(iothub) as client:
        assert client.put_token(change(iothub)) == status
        assert client.attach(EVENTS, True)[1] == "amqp:unauthorized-access"


def test_a_token_opens_only_what_it_is_for(iothub: HubHandle) -> None:
    with AmqpClient(iothub) as client:
        assert client.put_token(token(iothub, path=f"/{EVENTS}")) == 200
        assert client.attach(EVENTS, True)[1] == ""
        other = EVENTS.replace("/0", "/1")
        assert client.attach(other, True)[1] == "amqp:unauthorized-access"
        assert client.attach(COMMANDS, False)[1] == "amqp:unauthorized-access"


def test_links_end_with_their_token(iothub: HubHandle) -> None:
    with AmqpClient(iothub) as client:
        assert client.put_token(token(iothub, seconds=2)) == 200
        handle, refused = client.attach(EVENTS, True)
        assert refused == ""
        detach = client.expect(Detach)
        assert (detach.handle, condition(detach)) == (handle, "amqp:unauthorized-access")
        assert client.put_token(token(iothub)) == 200
        assert client.attach(EVENTS, True)[1] == ""


def test_plain_with_the_key_of_a_policy(iothub: HubHandle) -> None:
    key = dict(p.split("=", 1) for p in iothub.service_connection_string.split(";"))
    good = f"\0iothubowner\0{key['SharedAccessKey']}".encode()
    with AmqpClient(iothub, SaslInit(PLAIN, good)) as client:
        assert client.attach(EVENTS, True)[1] == ""
    for bad in (b"\0iothubowner\0wrong", b"\0nobody\0x", b"", b"\0\xff\0\xff"):
        with AmqpClient(iothub, SaslInit(PLAIN, bad)) as client:
            assert client.outcome == 1
            assert client.frame() is None


@pytest.mark.parametrize(
    ("address", "receives", "refused"),
    [
        ("edgekit-hub/ConsumerGroups/$Default/Partitions/4", True, OUT_OF_RANGE),
        ("edgekit-hub/ConsumerGroups/$Default/Partitions/x", True, OUT_OF_RANGE),
        ("edgekit-hub/ConsumerGroups/nobody/Partitions/0", True, "amqp:not-found"),
        ("other/ConsumerGroups/$Default/Partitions/0", True, "amqp:not-found"),
        (EVENTS, False, "amqp:not-found"),
        (COMMANDS, True, "amqp:not-found"),
        (FEEDBACK, False, "amqp:not-found"),
        ("", True, "amqp:not-found"),
        ("devices/d/messages/events", False, "amqp:not-found"),
        ("sb://hub:5671/EDGEKIT-HUB/consumergroups/$default/partitions/3", True, ""),
    ],
)  # fmt: skip
def test_addresses(owner: AmqpClient, address: str, receives: bool, refused: str) -> None:
    assert owner.attach(address, receives)[1] == refused


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("amqp.annotation.x-opt-offset > '-1'", ""),
        ("amqp.annotation.x-opt-offset >= '@latest'", ""),
        ("amqp.annotation.x-opt-sequence-number >= '12'", ""),
        ("amqp.annotation.x-opt-enqueued-time > '1700000000000'", ""),
        ("amqp.annotation.x-opt-offset < '5'", "amqp:invalid-field"),
        ("amqp.annotation.x-opt-offset > 'first'", "amqp:invalid-field"),
        ("amqp.annotation.x-opt-offset > '" + "9" * 400 + "'", "amqp:invalid-field"),
        ("amqp.annotation.x-opt-enqueued-time > '@latest'", "amqp:invalid-field"),
        ("colour = 'red'", "amqp:invalid-field"),
        (7, "amqp:invalid-field"),
    ],
)
def test_filters(owner: AmqpClient, text: Any, refused: str) -> None:
    filters = {SELECTOR: Described(Symbol(SELECTOR), text)}
    assert owner.attach(EVENTS, True, filters)[1] == refused
    assert owner.attach(EVENTS, True, {"unknown-filter": "x"})[1] == ""


def test_owner_levels(iothub: HubHandle, owner: AmqpClient) -> None:
    free, _ = owner.attach(EVENTS, True)
    low, _ = owner.attach(EVENTS, True, properties={EPOCH: 1})
    stolen = owner.expect(Detach)
    assert (stolen.handle, condition(stolen)) == (free, "amqp:link:stolen")
    assert owner.attach(EVENTS, True)[1] == "amqp:link:stolen"
    assert owner.attach(EVENTS, True, properties={EPOCH: 0})[1] == "amqp:link:stolen"
    with AmqpClient(iothub) as other:
        assert other.put_token(token(iothub)) == 200
        assert other.attach(EVENTS, True, properties={EPOCH: 2})[1] == ""
        stolen = owner.expect(Detach)
        assert (stolen.handle, condition(stolen)) == (low, "amqp:link:stolen")
        assert owner.attach(EVENTS.replace("/0", "/1"), True)[1] == ""  # another partition


def test_five_receivers_without_owner_level(iothub: HubHandle, owner: AmqpClient) -> None:
    iothub.create_consumer_group("crowd")
    address = EVENTS.replace("$Default", "crowd")
    handles = [owner.attach(address, True)[0] for _ in range(5)]
    assert owner.attach(address, True)[1] == "amqp:resource-limit-exceeded"
    owner.say(Detach(handles[0], True))
    owner.expect(Detach)
    assert owner.attach(address, True)[1] == ""


@pytest.mark.parametrize(
    ("to", "body"),
    [
        ("/devices/nobody/messages/devicebound", b"x"),
        ("/devices/", b"x"),
        ("", b"x"),
        (None, b"x"),
        (17, b"x"),
        ("/devices/amqp-bad/messages/devicebound", b"x" * 70_000),
        ("/devices/amqp-bad/messages/devicebound", Value({"deep": [Described("a", 1)]})),
    ],
)
def test_commands_that_are_rejected(
    iothub: HubHandle, owner: AmqpClient, to: Any, body: Any
) -> None:
    iothub.create_device("amqp-bad")
    handle, _ = owner.attach(COMMANDS, False)
    message = write_message(Message(body, {"to": to} if to is not None else {}))
    half = len(message) // 2
    owner.say(Transfer(handle, 5, b"t", 0, more=True), message[:half])
    owner.say(Transfer(handle), message[half:])
    disposition = owner.expect(Disposition)
    assert disposition.state.descriptor == 0x25
    assert iothub.request("GET", "/devices/amqp-bad")["cloudToDeviceMessageCount"] == 0


def test_a_message_that_is_none_is_rejected(owner: AmqpClient) -> None:
    handle, _ = owner.attach(COMMANDS, False)
    owner.say(Transfer(handle, 0, b"t", 0), b"\x00\x53\x75\xa0\xff")
    assert owner.expect(Disposition).state.descriptor == 0x25
    assert owner.attach(FEEDBACK, True)[1] == ""


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"operation": "READ", "type": "com.microsoft:eventhub", "name": "edgekit-hub"}, 200),
        ({"operation": "WRITE", "type": "com.microsoft:eventhub", "name": "edgekit-hub"}, 400),
        ({"operation": "READ", "type": "com.microsoft:eventhub", "name": "other"}, 404),
        ({"operation": "READ", "type": "com.microsoft:moon", "name": "edgekit-hub"}, 404),
        (
            {
                "operation": "READ",
                "type": "com.microsoft:partition",
                "name": "edgekit-hub",
                "partition": "9",
            },
            404,
        ),
        ({}, 400),
    ],
)
def test_management(
    iothub: HubHandle, owner: AmqpClient, asked: dict[str, str], status: int
) -> None:
    sender, _ = owner.attach("$management", False)
    receiver, _ = owner.attach("$management", True)
    owner.credit(receiver, 2)
    request = Message(Value(None), {"message_id": 7}, {**asked, "security_token": token(iothub)})
    owner.send(sender, request)
    answer = owner.message()
    assert (answer.application["status-code"], answer.properties["correlation_id"]) == (status, 7)
    owner.send(sender, Message(Value(None), {}, asked))
    assert owner.message().application["status-code"] == 401


def test_an_answer_waits_for_credit_and_stays_in_its_session(owner: AmqpClient) -> None:
    sender, _ = owner.attach("$management", False)
    owner.send(sender, Message(Value(None), {"message_id": "early"}))
    receiver, _ = owner.attach("$management", True)
    owner.credit(receiver, 1)
    assert owner.message().properties["correlation_id"] == "early"


def test_consumer_groups(iothub: HubHandle) -> None:
    path = "/edgekit/consumer-groups"
    iothub.create_consumer_group("dashboard")
    iothub.create_consumer_group("Dashboard")
    assert {"$Default", "dashboard"} <= set(iothub.request("GET", path))
    iothub.request("DELETE", f"{path}/dashboard")
    assert "dashboard" not in iothub.request("GET", path)
    for method, name in (("DELETE", "dashboard"), ("DELETE", "$Default"), ("PUT", "a%20b")):
        with pytest.raises(Exception, match=r"consumer group|removed"):
            iothub.request(method, f"{path}/{name}")


OPENED = SASL_HEADER + write_frame(SASL, 0, SaslInit(ANONYMOUS)) + AMQP_HEADER


@pytest.fixture
def bystander(iothub: HubHandle) -> Any:
    """A client that must not notice what others do."""
    with AmqpClient(iothub) as client:
        assert client.put_token(token(iothub)) == 200
        yield client
        assert client.attach(FEEDBACK, True)[1] == ""


@pytest.mark.usefixtures("bystander")
@settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(start=st.sampled_from([b"", SASL_HEADER, OPENED]), data=st.binary(max_size=400))
def test_garbage_ends_only_its_own_connection(iothub: HubHandle, start: bytes, data: bytes) -> None:
    address = (iothub.gateway, iothub.ports["amqp"])
    with socket.create_connection(address, 10) as one:
        one.sendall(start + data)
        one.shutdown(socket.SHUT_WR)
        try:
            while one.recv(4096):
                continue
        except ConnectionResetError:
            return


def test_connections_leave_nothing_behind(iothub: HubHandle) -> None:
    descriptors = Path(f"/proc/{iothub.pid}/fd")

    def count() -> int:
        return len(list(descriptors.iterdir()))

    before = count()
    for _ in range(20):
        with AmqpClient(iothub) as client:
            client.put_token(token(iothub))
            client.attach(EVENTS, True)
            client.raw(b"\xff" * 64)
            assert isinstance(client.expect(Close), Close)
    end = time.monotonic() + 10
    while count() > before and time.monotonic() < end:
        time.sleep(0.05)
    assert count() <= before


def test_a_slow_reader_holds_up_nobody(iothub: HubHandle, connect: Any) -> None:
    device = connect("amqp-slow")
    for _ in range(30):
        device.send_message(DeviceMessage(b"x" * 200_000))
    sent = [event for event in iothub.events() if event["deviceId"] == "amqp-slow"]
    address = EVENTS.replace("/0", f"/{sent[0]['partition']}")
    with AmqpClient(iothub) as slow, AmqpClient(iothub) as quick:
        for client in (slow, quick):
            assert client.put_token(token(iothub)) == 200
            handle, _ = client.attach(address, True)
            client.credit(handle, 1000)
        bodies = 0
        while bodies < 30 * 200_000:
            frame = quick.frame()
            assert frame is not None
            bodies += len(frame.payload)
    assert bodies >= 30 * 200_000
