"""MQTT on the wire: broken frames and forbidden topics drop one connection and nothing else."""

import contextlib
import time
from collections.abc import Iterator

import pytest
import websocket
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.handle import HubHandle
from tests.edgekit_sim.iothub.mqtt_client import Raw, hello, packet, text

SLOW = [HealthCheck.function_scoped_fixture]


@pytest.fixture
def raw(iothub: HubHandle) -> Iterator[Raw]:
    client = Raw(iothub)
    yield client
    client.close()


def test_connect_and_ping(iothub: HubHandle, raw: Raw) -> None:
    raw.say(hello(iothub, "raw") + b"\xc0\x00")
    assert raw.hear(6) == b"\x20\x02\x00\x00\xd0\x00"


def test_a_packet_in_single_bytes(iothub: HubHandle, raw: Raw) -> None:
    for byte in hello(iothub, "bytes"):
        raw.say(bytes([byte]))
    assert raw.hear(4) == b"\x20\x02\x00\x00"


def test_an_expired_token_is_refused(iothub: HubHandle, raw: Raw) -> None:
    raw.say(hello(iothub, "expired", expiry=-5))
    assert raw.hear(5) == b"\x20\x02\x00\x05"


def test_a_token_that_ends_ends_the_connection(iothub: HubHandle, raw: Raw) -> None:
    raw.say(hello(iothub, "ending", expiry=2.0))
    assert raw.hear(5) == b"\x20\x02\x00\x00"


def test_the_token_of_another_device_is_refused(iothub: HubHandle, raw: Raw) -> None:
    raw.say(hello(iothub, "mine", resource=f"{iothub.hostname}/devices/yours"))
    assert raw.hear(5) == b"\x20\x02\x00\x05"


def test_the_token_of_another_hub_is_refused(iothub: HubHandle, raw: Raw) -> None:
    raw.say(hello(iothub, "mine", resource="elsewhere.example/devices/mine"))
    assert raw.hear(5) == b"\x20\x02\x00\x05"


@pytest.mark.parametrize(
    "topic",
    [
        "devices/other/messages/events/",
        "devices/forbidden/messages/eventsx",
        "devices/forbidden/modules/m/messages/events/",
        "$iothub/twin/POST/?$rid=1",
        "anything",
    ],
)
def test_publishing_elsewhere_drops_the_connection(iothub: HubHandle, raw: Raw, topic: str) -> None:
    raw.say(hello(iothub, "forbidden"))
    assert raw.hear(4)[3:] == b"\x00"
    raw.say(packet(0x30, text(topic) + b"x"))
    assert raw.hear(1) == b""


def test_subscribing_elsewhere_is_refused(iothub: HubHandle, raw: Raw) -> None:
    raw.say(hello(iothub, "curious"))
    raw.say(packet(0x82, b"\0\1" + text("devices/other/messages/devicebound/#") + b"\1"))
    assert raw.hear(9) == b"\x20\x02\x00\x00\x90\x03\x00\x01\x80"


def test_qos_2_drops_the_connection(iothub: HubHandle, raw: Raw) -> None:
    raw.say(hello(iothub, "qos2"))
    raw.say(packet(0x34, text("devices/qos2/messages/events/") + b"\0\1x"))
    assert raw.hear(5) == b"\x20\x02\x00\x00"


def test_an_oversize_message_drops_the_connection(iothub: HubHandle, raw: Raw) -> None:
    raw.say(hello(iothub, "big"))
    body = text("devices/big/messages/events/") + b"\0\1" + bytes(256 * 1024 + 1)
    raw.say(packet(0x32, body))
    assert raw.hear(5) == b"\x20\x02\x00\x00"


@pytest.mark.needs("port-443")
def test_an_oversize_message_drops_the_websocket_too(iothub: HubHandle) -> None:
    line = websocket.create_connection(
        f"wss://{iothub.gateway}:{iothub.ports['websocket']}/$iothub/websocket",
        subprotocols=["mqtt"],
        sslopt={"ca_certs": iothub.ca_file},
    )
    line.send_binary(hello(iothub, "big-ws"))
    assert line.recv() == b"\x20\x02\x00\x00"
    body = text("devices/big-ws/messages/events/") + b"\0\1" + bytes(256 * 1024 + 1)
    line.send_binary(packet(0x32, body))
    with contextlib.suppress(websocket.WebSocketConnectionClosedException, OSError):
        assert not line.recv()  # the end, not an answer
    line.close()


def test_a_message_of_the_largest_size(iothub: HubHandle, raw: Raw) -> None:
    raw.say(hello(iothub, "largest"))
    body = text("devices/largest/messages/events/") + b"\0\1" + bytes(256 * 1024 - 1)
    raw.say(packet(0x32, body))
    assert raw.hear(8) == b"\x20\x02\x00\x00\x40\x02\x00\x01"


def test_a_will_becomes_a_message(iothub: HubHandle, raw: Raw) -> None:
    iothub.create_device("will")
    key = iothub.request("GET", "/devices/will")["authentication"]["symmetricKey"]["primaryKey"]
    token = tokens.sign(f"{iothub.hostname}/devices/will", key, int(time.time() + 60))
    body = text("MQTT") + bytes([4, 0xC6, 0, 60]) + text("will")
    body += text("devices/will/messages/events/a=b") + text("gone")
    body += text(f"{iothub.hostname}/will/?api-version=2021-04-12") + text(token)
    raw.say(packet(0x10, body))
    assert raw.hear(4) == b"\x20\x02\x00\x00"
    raw.close()
    end = time.monotonic() + 10
    while time.monotonic() < end:
        found = [event for event in iothub.events() if event["deviceId"] == "will"]
        if found:
            break
    assert found[0]["properties"] == {"a": "b", "iothub-MessageType": "Will"}


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(garbage=st.binary(max_size=200), first=st.sampled_from([0x10, 0x30, 0x32, 0x82, 0xA2, 0xF0]))
def test_broken_frames_drop_only_their_connection(
    iothub: HubHandle, garbage: bytes, first: int
) -> None:
    client = Raw(iothub)
    client.say(packet(first, garbage))
    client.end()
    client.hear(100)
    client.close()
    assert iothub.request("GET", "/edgekit/events?limit=1") is not None


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(
    body=st.binary(max_size=60),
    first=st.sampled_from([0x30, 0x32, 0x40, 0x82, 0xA2, 0xE0]),
)
def test_broken_frames_after_connect(iothub: HubHandle, body: bytes, first: int) -> None:
    broken, healthy = Raw(iothub), Raw(iothub)
    healthy.say(hello(iothub, "healthy"))
    assert healthy.hear(4)[:2] == b"\x20\x02"
    broken.say(hello(iothub, "broken") + packet(first, body))
    broken.end()
    broken.hear(100)
    healthy.say(b"\xc0\x00")
    assert healthy.hear(2) == b"\xd0\x00"
    broken.close()
    healthy.close()
