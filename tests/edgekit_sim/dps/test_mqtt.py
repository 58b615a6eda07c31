"""The device side on the wire: what is no proper request drops its connection and nothing else."""

import json
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.handle import HubHandle
from edgekit_sim.iothub.mqtt.packets import publish
from tests.edgekit_sim.dps.clients import Api
from tests.edgekit_sim.iothub.mqtt_client import packet, text

SLOW = [HealthCheck.function_scoped_fixture]
SUBSCRIBE = "$dps/registrations/res/#"
REGISTER = "$dps/registrations/PUT/iotdps-register/?$rid=7"
STATUS = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=8&operationId="


class Raw:
    """A client that says what it is told to say."""

    def __init__(self, hub: HubHandle) -> None:
        context = ssl.create_default_context(cafile=hub.ca_file)
        plain = socket.create_connection((hub.gateway, hub.ports["mqtt"]), timeout=10)
        self._socket = context.wrap_socket(plain, server_hostname=hub.gateway)
        self._file = self._socket.makefile("rb")

    def say(self, data: bytes) -> None:
        self._socket.sendall(data)

    def packet(self) -> tuple[int, bytes]:
        """The next packet, as first byte and body; (0, b"") when the connection has ended."""
        try:
            first = self._file.read(1)
            if not first:
                return 0, b""
            length = shift = 0
            while True:
                byte = self._file.read(1)[0]
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    return first[0], self._file.read(length)
        except (ConnectionResetError, ssl.SSLEOFError):
            return 0, b""

    def message(self) -> tuple[str, Any]:
        """Topic and body of the next message."""
        while (found := self.packet())[0] >> 4 != 3:
            assert found[0], "the connection has ended"
        first, body = found
        end = 2 + int.from_bytes(body[:2])
        return body[2:end].decode(), json.loads(body[end + (2 if first & 6 else 0) :])

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def raw(iothub: HubHandle) -> Iterator[Raw]:
    client = Raw(iothub)
    yield client
    client.close()


def connect(user: str, password: str, client_id: str, level: int = 4) -> bytes:
    header = text("MQTT") + bytes([level, 0xC2, 0, 60])
    return packet(0x10, header + text(client_id) + text(user) + text(password))


def hello(iothub: HubHandle, api: Api, name: str) -> bytes:
    """CONNECT of a device that is enrolled, anew."""
    api.call("DELETE", f"/enrollments/{name}")
    key = api.enroll(name)
    resource = f"{iothub.dps_id_scope}/registrations/{name}"
    password = tokens.sign(resource, key, int(time.time()) + 600, "registration")
    return connect(f"{resource}/api-version=2019-03-31", password, name)


def subscribe(topic: str = SUBSCRIBE, qos: int = 1) -> bytes:
    return packet(0x82, b"\0\1" + text(topic) + bytes([qos]))


def body_of(name: str) -> bytes:
    return json.dumps({"registrationId": name}).encode()


def test_a_registration_in_single_bytes(iothub: HubHandle, api: Api, raw: Raw) -> None:
    for byte in hello(iothub, api, "bytes"):
        raw.say(bytes([byte]))
    raw.say(subscribe())
    connected, subscribed = raw.packet(), raw.packet()
    raw.say(publish(REGISTER, body_of("bytes"), 9))
    acknowledged = raw.packet()
    topic, begun = raw.message()
    assert (connected, subscribed) == ((0x20, b"\0\0"), (0x90, b"\0\1\1"))
    assert acknowledged == (0x40, b"\0\x09")
    assert topic == "$dps/registrations/res/202/?$rid=7&retry-after=3"
    assert begun["status"] == "assigning"
    end = time.monotonic() + 10
    while topic.startswith("$dps/registrations/res/202") and time.monotonic() < end:
        raw.say(publish(STATUS + begun["operationId"], b" "))
        topic, done = raw.message()
    assert topic == "$dps/registrations/res/200/?$rid=8"
    assert (done["status"], done["registrationState"]["deviceId"]) == ("assigned", "bytes")


def test_a_ping_and_a_goodbye(iothub: HubHandle, api: Api, raw: Raw) -> None:
    raw.say(hello(iothub, api, "ping") + b"\xc0\x00\xe0\x00")
    assert [raw.packet() for _ in range(3)] == [(0x20, b"\0\0"), (0xD0, b""), (0, b"")]


def test_who_unsubscribes_hears_nothing(iothub: HubHandle, api: Api, raw: Raw) -> None:
    raw.say(hello(iothub, api, "silent") + subscribe())
    raw.say(packet(0xA2, b"\0\2" + text(SUBSCRIBE)))
    raw.say(publish(REGISTER, body_of("silent"), 3) + b"\xc0\x00")
    assert [raw.packet()[0] for _ in range(5)] == [0x20, 0x90, 0xB0, 0x40, 0xD0]


def test_subscribing_elsewhere_is_refused(iothub: HubHandle, api: Api, raw: Raw) -> None:
    raw.say(hello(iothub, api, "curious") + subscribe("$iothub/twin/res/#"))
    assert [raw.packet(), raw.packet()] == [(0x20, b"\0\0"), (0x90, b"\0\1\x80")]


@pytest.mark.parametrize(
    "topic",
    [
        "$dps/registrations/PUT/iotdps-register/",
        "$dps/registrations/PUT/iotdps-register/?$rid=",
        "$dps/registrations/POST/iotdps-register/?$rid=1",
        "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1",
        "devices/malformed/messages/events/",
        "$iothub/twin/GET/?$rid=1",
    ],
)
def test_a_malformed_topic_drops_the_connection(
    iothub: HubHandle, api: Api, raw: Raw, topic: str
) -> None:
    raw.say(hello(iothub, api, "malformed") + publish(topic, body_of("malformed"), 1))
    assert [raw.packet(), raw.packet()] == [(0x20, b"\0\0"), (0, b"")]


@pytest.mark.parametrize("body", [b"", b"no JSON", b"[]", body_of("another")])
def test_a_bad_body_is_answered(iothub: HubHandle, api: Api, raw: Raw, body: bytes) -> None:
    raw.say(hello(iothub, api, "bad-body") + subscribe() + publish(REGISTER, body, 1))
    topic, error = raw.message()
    assert topic == "$dps/registrations/res/400/?$rid=7"
    assert error["errorCode"] == 400004


def test_an_unknown_operation_is_answered(iothub: HubHandle, api: Api, raw: Raw) -> None:
    raw.say(hello(iothub, api, "unknown") + subscribe() + publish(STATUS + "5.x", b" "))
    topic, error = raw.message()
    assert (topic, error["errorCode"]) == ("$dps/registrations/res/404/?$rid=8", 404204)


def test_a_throttled_answer_says_when_to_come_again(iothub: HubHandle, api: Api, raw: Raw) -> None:
    raw.say(hello(iothub, api, "hurried") + subscribe())
    api.call("POST", "/edgekit/dps/throttle", {"requests": 1, "retryAfter": 11})
    raw.say(publish(REGISTER, body_of("hurried"), 1))
    topic, error = raw.message()
    assert topic == "$dps/registrations/res/429/?$rid=7&retry-after=11"
    assert error["message"] == "Operations are being throttled for this tenant."


def test_an_expired_token_is_refused_when_it_asks(iothub: HubHandle, api: Api, raw: Raw) -> None:
    key = api.enroll("late")
    resource = f"{iothub.dps_id_scope}/registrations/late"
    password = tokens.sign(resource, key, int(time.time()) - 5, "registration")
    raw.say(connect(f"{resource}/api-version=2019-03-31", password, "late") + subscribe())
    raw.say(publish(REGISTER, body_of("late")))
    topic, error = raw.message()
    assert topic == "$dps/registrations/res/401/?$rid=7"
    assert (error["errorCode"], error["message"]) == (401002, "Unauthorized")


def test_a_client_id_that_is_not_the_registration(iothub: HubHandle, raw: Raw) -> None:
    user = f"{iothub.dps_id_scope}/registrations/mine/api-version=2019-03-31"
    raw.say(connect(user, "x", "yours"))
    assert [raw.packet(), raw.packet()] == [(0x20, b"\0\4"), (0, b"")]


def test_another_protocol_level(raw: Raw) -> None:
    raw.say(connect("x", "x", "x", level=5))
    assert raw.packet() == (0x20, b"\0\1")


def test_qos_2_drops_the_connection(iothub: HubHandle, api: Api, raw: Raw) -> None:
    raw.say(hello(iothub, api, "qos2") + packet(0x34, text(REGISTER) + b"\0\1x"))
    assert [raw.packet(), raw.packet()] == [(0x20, b"\0\0"), (0, b"")]


def test_an_oversize_packet_drops_the_connection(iothub: HubHandle, api: Api, raw: Raw) -> None:
    raw.say(hello(iothub, api, "big"))
    assert raw.packet() == (0x20, b"\0\0")
    raw.say(b"\x32\x80\x80\x80\x01")
    assert raw.packet() == (0, b"")


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(
    garbage=st.binary(max_size=60),
    first=st.sampled_from([0x10, 0x30, 0x32, 0x40, 0x82, 0xA2, 0xE0, 0xF0]),
)
def test_broken_frames_drop_only_their_connection(
    iothub: HubHandle, api: Api, garbage: bytes, first: int
) -> None:
    broken = Raw(iothub)
    broken.say(connect(f"{iothub.dps_id_scope}/registrations/b/api-version=1", "x", "b"))
    broken.say(packet(first, garbage))
    assert broken.packet() == (0x20, b"\0\0")
    broken.close()
    assert api.call("GET", "/edgekit/dps/linkedHubs")[0] == 200


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(first=st.binary(min_size=1, max_size=80))
def test_a_broken_first_packet(iothub: HubHandle, api: Api, first: bytes) -> None:
    broken = Raw(iothub)
    broken.say(first)
    broken.close()
    assert api.call("GET", "/edgekit/dps/linkedHubs")[0] == 200
