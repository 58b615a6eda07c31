"""Whatever is said to the hub, it answers or drops that connection: nothing dies, hangs or stays.

Requests are made of the words that the hub knows, so that they get past the first check.
"""

import json
import secrets
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit_sim.amqp.encode import encode
from edgekit_sim.amqp.types import Described, Symbol, Ubyte, Uint, Ulong, Ushort
from edgekit_sim.iothub import HubHandle, start_hub, tokens
from tests.edgekit_sim.iothub.amqp_client import AmqpClient, token
from tests.edgekit_sim.iothub.mqtt_client import SECONDS, Raw, end_sending, hello, packet, text

FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
MANY = settings(FEW, max_examples=100)


@pytest.fixture(scope="module")
def hub() -> Iterator[HubHandle]:
    with start_hub() as hub:
        hub.create_device("victim", edge=True)  # requests may disable it, or delete it
        hub.create_device("speaker", edge=True)
        hub.create_device("healthy")
        yield hub


@pytest.fixture(scope="module")
def greetings(hub: HubHandle) -> dict[str, bytes]:
    """How devices that no odd request is about say who they are."""
    return {name: hello(hub, name) for name in ("speaker", "healthy")}


@pytest.fixture
def unharmed(hub: HubHandle, http: requests.Session, greetings: dict[str, bytes]) -> Iterator[None]:
    """What must be the same after all that a test did."""
    http.get(f"https://{hub.rest_host}/", timeout=SECONDS)
    pid, threads, descriptors = hub.pid, _count(hub, "task"), _count(hub, "fd")
    bystander = Raw(hub)
    bystander.say(greetings["healthy"])
    assert bystander.hear(4)[3:] == b"\0"
    yield
    bystander.say(b"\xc0\x00")
    assert bystander.hear(2) == b"\xd0\x00"
    bystander.close()
    end = time.monotonic() + SECONDS
    while _count(hub, "fd") > descriptors and time.monotonic() < end:
        time.sleep(0.05)
    assert (hub.pid, _count(hub, "task")) == (pid, threads)
    assert _count(hub, "fd") <= descriptors
    log = (hub.state_dir / "hub.log").read_text()
    assert "Traceback" not in log, log[-3000:]


def _count(hub: HubHandle, what: str) -> int:
    return len(list(Path(f"/proc/{hub.pid}/{what}").iterdir()))


# ---- HTTP

_VOCABULARY = """
deviceId moduleId id importMode create delete authentication symmetricKey primaryKey secondaryKey
x509Thumbprint primaryThumbprint type sas selfSigned certificateAuthority status disabled etag eTag
* capabilities iotEdge properties desired reported tags $version $metadata content deviceContent
modulesContent $edgeAgent properties.desired properties.desired.a targetCondition priority metrics
queries labels methodName payload query SELECT op path add /a value jobId jobType updateTwin
scheduleUpdateTwin cloudToDeviceMethod scheduleDeviceMethod queryCondition startTime a.b $a victim
maxExecutionTimeInSeconds inputBlobContainerUri export import blobName correlationId isSuccess
statusCode enrollments mode registrationId enrollmentGroupId attestation tpm x509 clientCertificates
primary certificate signingCertificates initialTwin allocationPolicy static hashed custom routes
reprovisionPolicy iotHubs endpoints source condition endpointNames isEnabled enrichments key
fallbackRoute
"""
WORDS = st.sampled_from(_VOCABULARY.split())
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    WORDS,
    st.sampled_from(
        ["SELECT * FROM devices WHERE tags.a = 'x'", "tags.a = 1", "deviceId='victim'"]
    ),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=12,
)
NAMES = st.sampled_from(["victim", "nobody", "$edgeAgent", "a b", "%00", "é", "..", "x" * 200])
ROUTES = (
    "GET /devices/{}",
    "PUT /devices/{}",
    "DELETE /devices/{}",
    "POST /devices",
    "GET /devices",
    "GET /devices/{}/modules",
    "PUT /devices/victim/modules/{}",
    "DELETE /devices/victim/modules/{}",
    "POST /devices/query",
    "DELETE /devices/{}/commands",
    "POST /devices/{}/applyConfigurationContent",
    "POST /devices/{}/files",
    "POST /devices/{}/files/notifications",
    "GET /twins/{}",
    "PATCH /twins/{}",
    "PUT /twins/{}",
    "PATCH /twins/victim/modules/{}",
    "POST /twins/{}/methods",
    "GET /digitaltwins/{}",
    "PATCH /digitaltwins/{}",
    "POST /digitaltwins/{}/commands/c",
    "GET /configurations/{}",
    "PUT /configurations/{}",
    "DELETE /configurations/{}",
    "POST /configurations/testQueries",
    "GET /configurations",
    "PUT /jobs/v2/{}",
    "GET /jobs/v2/{}",
    "POST /jobs/v2/{}/cancel",
    "GET /jobs/v2/query",
    "POST /jobs/create",
    "DELETE /jobs/{}",
    "GET /jobs",
    "GET /messages/serviceBound/feedback",
    "DELETE /messages/serviceBound/feedback/{}",
    "GET /edgekit/events",
    "PUT /edgekit/consumer-groups/{}",
    "DELETE /edgekit/consumer-groups/{}",
    "PUT /edgekit/authorities/{}",
    "GET /edgekit/routing",
    "PUT /edgekit/routing",
    "POST /edgekit/routing/routes/$testnew",
    "POST /edgekit/routing/routes/$testall",
    "GET /statistics/devices",
    "PUT /enrollments/{}",
    "GET /enrollments/{}",
    "DELETE /enrollments/{}",
    "POST /enrollments/{}/attestationmechanism",
    "POST /enrollments",
    "POST /enrollments/query",
    "PUT /enrollmentGroups/{}",
    "GET /registrations/{}",
    "POST /registrations/{}/query",
    "PUT /scope/registrations/{}/register",
    "GET /scope/registrations/{}/operations/o",
    "PATCH /nothing/{}",
)
QUERIES = st.dictionaries(
    st.sampled_from(["top", "after", "limit", "jobStatus", "jobType", "api-version", "force"]),
    st.sampled_from(["", "0", "-1", "1e9", "99999999999999999999", "é", "2021-04-12"]),
    max_size=2,
)
HEADERS = st.dictionaries(
    st.sampled_from(["If-Match", "x-ms-continuation", "x-ms-max-item-count", "x-ms-edge-moduleId"]),
    st.sampled_from(["", "*", '"x"', "MTA=", "LTU=", "!", "0", "-3", "99999", "victim/$edgeAgent"]),
    max_size=2,
)


def service_token(hub: HubHandle, path: str) -> str:
    if not path.startswith(("/enrollment", "/registrations", "/scope")):
        return hub.service_token()
    fields = dict(p.split("=", 1) for p in hub.dps_service_connection_string.split(";"))
    key, name = fields["SharedAccessKey"], fields["SharedAccessKeyName"]
    return tokens.sign(fields["HostName"], key, int(time.time()) + 600, name)


@pytest.fixture(scope="module")
def http(hub: HubHandle) -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.verify, session.trust_env = hub.ca_file, False
        yield session


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("route", ROUTES)
@settings(FEW, max_examples=25)
@given(
    name=NAMES | WORDS,
    document=JSON,
    body=st.none() | st.just(b"\0") | st.binary(max_size=20),
    query=QUERIES,
    headers=HEADERS,
)
def test_requests_are_answered_without_an_internal_error(
    hub: HubHandle,
    http: requests.Session,
    route: str,
    name: str,
    document: Any,
    body: bytes | None,
    query: Any,
    headers: Any,
) -> None:
    method, path = route.split(" ")
    answer = http.request(
        method,
        f"https://{hub.rest_host}{path.format(quote(name, safe=''))}",
        params=query,
        data=json.dumps(document).encode() if body is None else body,
        headers={**headers, "Authorization": service_token(hub, path)},
        timeout=SECONDS,
    )
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.json().keys() & {"Message", "errorCode", "isSuccessful"}


@pytest.mark.usefixtures("unharmed")
@MANY
@given(
    start=st.sampled_from(
        [b"", b"GET /devices HTTP/1.1\r\n", b"POST /devices HTTP/1.1\r\nHost: x\r\n"]
    ),
    data=st.binary(max_size=300)
    | st.sampled_from(
        [
            b"Content-Length: -1\r\n\r\n",
            b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
            b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
            b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
            b"Authorization: SharedAccessSignature sr=&sig=&se=\r\n\r\n",
            b"Authorization: SharedAccessSignature sr=%ff&sig=%ff&se=1e400\r\n\r\n",
            b"A: " + b"x" * 20_000 + b"\r\n\r\n",
            b"Expect: 100-continue\r\nContent-Length: 1000000000000\r\n\r\n",
        ]
    ),
)
def test_what_is_no_http(hub: HubHandle, start: bytes, data: bytes) -> None:
    with connection(hub, "https") as one:
        finish(one, start + data)


@contextmanager
def connection(hub: HubHandle, port: str) -> Iterator[ssl.SSLSocket]:
    """A connection over TLS."""
    context = ssl.create_default_context(cafile=hub.ca_file)
    with (
        socket.create_connection((hub.gateway, hub.ports[port]), SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=hub.gateway) as one,
    ):
        yield one


def finish(one: socket.socket, data: bytes) -> None:
    """Say all that one has to say, and hear the hub out until it hangs up."""
    try:
        one.sendall(data)
        end_sending(one)
        while one.recv(65536):
            continue
    except (ConnectionError, ssl.SSLError):
        return


@pytest.mark.usefixtures("unharmed")
@FEW
@given(data=st.binary(max_size=300))
def test_what_is_no_tls(hub: HubHandle, data: bytes) -> None:
    for name in ("https", "mqtt", "amqps"):
        if name in hub.ports:
            with socket.create_connection((hub.gateway, hub.ports[name]), SECONDS) as one:
                finish(one, data)


# ---- WebSocket


def frame(first: int, payload: bytes, mask: bool = True) -> bytes:
    """A WebSocket frame (RFC 6455, section 5.2); a client has to mask it."""
    length = len(payload)
    size = bytes([length]) if length < 126 else b"\x7e" + length.to_bytes(2)
    head = bytes([first, size[0] | (0x80 if mask else 0)]) + size[1:]
    return head + (b"\0\0\0\0" if mask else b"") + payload


@pytest.mark.usefixtures("unharmed")
@MANY
@given(
    path=st.sampled_from(["$iothub", "$servicebus"]),
    subprotocol=st.sampled_from(["mqtt", "AMQPWSB10", "other", ""]),
    frames=st.lists(
        st.builds(frame, st.integers(0, 255), st.binary(max_size=150), st.booleans())
        | st.builds(frame, st.just(0x82), st.binary(max_size=150), st.just(True)),
        max_size=4,
    ),
    rest=st.binary(max_size=20),
)
def test_broken_websocket_frames(
    hub: HubHandle, path: str, subprotocol: str, frames: list[bytes], rest: bytes
) -> None:
    request = f"GET /{path}/websocket HTTP/1.1\r\nHost: {hub.gateway}\r\nUpgrade: websocket\r\n"
    request += "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    request += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    request += f"Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n" if subprotocol else "\r\n"
    with connection(hub, "https") as one:
        one.sendall(request.encode())
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += one.recv(1)
        assert heard.startswith(b"HTTP/1.1 101 ")
        finish(one, b"".join(frames) + rest)


# ---- MQTT

TOPICS = st.sampled_from(
    [
        "$iothub/twin/GET/?$rid=",
        "$iothub/twin/PATCH/properties/reported/?$rid=",
        "$iothub/methods/res/200/?$rid=",
        "$iothub/methods/res/99999999999/?$rid=",
        "devices/speaker/messages/events/",
        "devices/speaker/messages/events/%24.mid=%ff&",
        "devices/speaker/messages/events/$.ct=application%2Fjson&$.ce=utf-8&",
    ]
)


@pytest.mark.usefixtures("unharmed")
@MANY
@given(
    messages=st.lists(
        st.tuples(TOPICS, st.text(max_size=10), JSON, st.none() | st.binary(max_size=30)),
        max_size=4,
    ),
    packets=st.lists(
        st.builds(
            packet,
            st.sampled_from(
                [0x10, 0x20, 0x30, 0x32, 0x3D, 0x40, 0x50, 0x82, 0x90, 0xA2, 0xC0, 0xE0]
            ),
            st.binary(max_size=60),
        ),
        max_size=2,
    ),
)
def test_mqtt_messages_of_all_kinds(
    hub: HubHandle, greetings: dict[str, bytes], messages: Any, packets: list[bytes]
) -> None:
    one = Raw(hub)
    filters = ("$iothub/twin/res/#", "$iothub/methods/POST/#", "devices/speaker/#")
    data = greetings["speaker"] + packet(
        0x82, b"\0\1" + b"".join(text(name) + b"\1" for name in filters)
    )
    for topic, end, document, body in messages:
        payload = json.dumps(document).encode() if body is None else body
        data += packet(0x30, text(topic + end) + payload)
    one.say(data + b"".join(packets))
    one.end()
    heard = one.hear(1_000_000)
    assert heard[:4] in (b"\x20\x02\0\0", b"\x20\x02\1\0")
    one.close()
    hub.events()


# ---- AMQP

ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(0, 2**32 - 1).map(Uint),
    st.integers(0, 2**16 - 1).map(Ushort),
    st.integers(0, 255).map(Ubyte),
    st.integers(0, 2**64 - 1).map(Ulong),
    st.sampled_from([0, 1, 2, 3]).map(Uint),
    st.text(max_size=6),
    st.binary(max_size=6),
    st.sampled_from(["$cbs", "$management", "/messages/devicebound", "link-0"]),
    st.sampled_from(["amqp:accepted:list", "com.microsoft:epoch"]).map(Symbol),
)
CODES = st.sampled_from([*range(0x10, 0x19), *range(0x23, 0x2B), 0x70, 0x75, 0x40])
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.builds(Described, CODES.map(Ulong), st.lists(inner, max_size=6))
    ),
    max_leaves=10,
)
PERFORMATIVES = st.builds(
    lambda code, fields: Described(Ulong(code), fields),
    st.sampled_from(range(0x10, 0x19)),
    st.lists(VALUES, max_size=14),
)


@pytest.mark.usefixtures("unharmed")
@MANY
@given(
    frames=st.lists(st.tuples(PERFORMATIVES, st.binary(max_size=40)), min_size=1, max_size=5),
    channel=st.integers(0, 3),
    proved=st.booleans(),
)
def test_amqp_frames_of_all_kinds(
    hub: HubHandle, frames: list[tuple[Described, bytes]], channel: int, proved: bool
) -> None:
    with AmqpClient(hub) as client:
        if proved:
            assert client.put_token(token(hub)) == 200
        try:
            for performative, payload in frames:
                body = encode(performative) + payload
                client.raw((len(body) + 8).to_bytes(4) + b"\2\0" + channel.to_bytes(2) + body)
            client.end()
        except ConnectionError:
            return
        while client.frame() is not None:
            continue


def test_a_key_that_is_guessed_opens_nothing(hub: HubHandle) -> None:
    guess = tokens.sign(hub.rest_host, tokens.new_key(), int(time.time()) + 60, "iothubowner")
    for header in (guess, "", "Bearer x", guess.replace("sig=", "sig=%00"), secrets.token_hex(9)):
        answer = requests.get(
            f"https://{hub.rest_host}/devices",
            headers={"Authorization": header},
            verify=hub.ca_file,
            timeout=SECONDS,
        )
        assert answer.status_code == 401
