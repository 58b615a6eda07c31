"""The provisioning service's device side over MQTT 3.1.1, on the hub's own ports.

Device SDKs know no port but 8883 and 443, for the hub and for the provisioning service alike. What
tells them apart is the user name in CONNECT: `{scope}/registrations/{id}/api-version=...` here,
`{hub}/{device}/?api-version=...` there. A `Doorway` reads that far and hands the connection over.
"""

import asyncio
import logging
import re
import time
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

import orjson

from edgekit_sim.dps.admission import Credentials
from edgekit_sim.dps.errors import BAD_REQUEST, ProvisioningFault
from edgekit_sim.dps.provisioning import Answer, Provisioning
from edgekit_sim.dps.rest import error_document
from edgekit_sim.iothub.client_certificates import chain_of
from edgekit_sim.iothub.faults import PARTITION
from edgekit_sim.iothub.mqtt import packets
from edgekit_sim.iothub.mqtt.connection import HELLO_SECONDS, DeviceConnection
from edgekit_sim.iothub.mqtt.packets import Malformed

if TYPE_CHECKING:
    from edgekit_sim.iothub.hub import Hub

logger = logging.getLogger(__name__)

PACKET_LIMIT = 64 * 1024  # bytes; a registration with its payload stays below
RESPONSES = "$dps/registrations/res/#"
IDLE_SECONDS = 300  # after which a client that only keeps the connection open is sent away
_USERNAME = re.compile(r"([^/]+)/registrations/([^/]+)/api-version=[^/]*")
_REGISTER = re.compile(r"\$dps/registrations/PUT/iotdps-register/\?\$rid=([^&]+)")
_STATUS = re.compile(
    r"\$dps/registrations/GET/iotdps-get-operationstatus/\?\$rid=([^&]+)&operationId=([^&]+)"
)


class ProvisioningConnection(asyncio.Protocol):
    """The service's end of one device's MQTT connection; sessions are never kept.

    Args:
        service: the provisioning service.
    """

    def __init__(self, service: Provisioning) -> None:
        self._service = service
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._registration_id = ""
        self._credentials: Credentials | None = None
        self._granted: int | None = None  # QoS of the subscription to responses
        self._last_id = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A device has come."""
        self._transport = cast(asyncio.Transport, transport)
        self._wait(HELLO_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """The device has gone; what it began goes on without it."""
        del exc
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Cut the bytes into packets and handle them."""
        data = self._rest + data
        position = 0
        try:
            while (found := packets.length_at(data, position + 1)) is not None:
                length, start = found
                if length > PACKET_LIMIT:
                    raise Malformed(f"a packet of {length} bytes")
                if start + length > len(data):
                    break
                self._packet(data[position], data[start : start + length])
                if self._transport is None:
                    return
                position = start + length
        except Malformed as error:
            logger.info("%s dropped: %s", self._registration_id or "a client", error)
            self._abort()
            return
        self._rest = data[position:]

    def _wait(self, seconds: float) -> None:
        """Send the device away unless it says something within some seconds."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._abort)

    def _abort(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def _send(self, packet: bytes) -> None:
        if self._transport is not None:
            self._transport.write(packet)

    # ---- packets

    def _packet(self, first: int, body: bytes) -> None:
        kind = first >> 4
        if (kind == packets.CONNECT) is (self._credentials is not None):
            raise Malformed("CONNECT must come first and once")
        if kind == packets.CONNECT:
            self._connect(packets.read_connect(body))
            return
        self._wait(IDLE_SECONDS)
        if kind == packets.PUBLISH:
            self._publish(first, body)
        elif kind == packets.SUBSCRIBE:
            packet_id, filters = packets.read_subscribe(body)
            self._send(packets.suback(packet_id, [self._grant(*one) for one in filters]))
        elif kind == packets.UNSUBSCRIBE:
            packet_id, names = packets.read_unsubscribe(body)
            self._granted = None if RESPONSES in names else self._granted
            self._send(packets.unsuback(packet_id))
        elif kind == packets.PINGREQ:
            self._send(packets.PING_RESPONSE)
        elif kind == packets.DISCONNECT:
            if self._transport is not None:
                self._transport.close()
        elif kind != packets.PUBACK:
            raise Malformed(f"a packet of type {kind}")

    def _connect(self, connect: packets.Connect) -> None:
        """Let a device in; its credentials are checked with each of its requests."""
        named = _USERNAME.fullmatch(connect.username or "")
        code = packets.ACCEPTED
        if connect.level != 4:
            code = packets.BAD_PROTOCOL
        elif named is None or unquote(named[2]) != connect.client_id:
            code = packets.BAD_CREDENTIALS
        self._send(packets.connack(code))
        if code != packets.ACCEPTED or named is None:
            if self._transport is not None:
                self._transport.close()
            return
        self._registration_id = connect.client_id
        tls = self._transport.get_extra_info("ssl_object") if self._transport else None
        self._credentials = Credentials(unquote(named[1]), connect.password, chain_of(tls))
        self._wait(IDLE_SECONDS)

    def _grant(self, topic_filter: str, qos: int) -> int:
        if topic_filter != RESPONSES:
            return packets.REFUSED_SUBSCRIPTION
        self._granted = min(qos, 1)
        return self._granted

    def _publish(self, first: int, body: bytes) -> None:
        topic, packet_id, payload = packets.read_publish(first, body)
        if match := _REGISTER.fullmatch(topic):
            work = self._register(match[1], payload)
        elif match := _STATUS.fullmatch(topic):
            work = self._status(match[1], unquote(match[2]))
        else:
            raise Malformed(f"nobody may publish to {topic[:200]!r}")
        if packet_id:
            self._send(packets.puback(packet_id))
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- requests

    async def _register(self, request: str, payload: bytes) -> None:
        assert self._credentials is not None
        try:
            document = _object(payload)
            answer = await self._service.register(
                self._registration_id, self._credentials, document
            )
        except ProvisioningFault as fault:
            answer = Answer(fault.status, error_document(fault), fault.retry_after)
        self._respond(request, answer)

    async def _status(self, request: str, operation: str) -> None:
        assert self._credentials is not None
        try:
            answer = self._service.status(self._registration_id, self._credentials, operation)
        except ProvisioningFault as fault:
            answer = Answer(fault.status, error_document(fault), fault.retry_after)
        self._respond(request, answer)

    def _respond(self, request: str, answer: Answer) -> None:
        if self._granted is None:
            return
        topic = f"$dps/registrations/res/{answer.status}/?$rid={request}"
        topic += f"&retry-after={answer.retry_after}" if answer.retry_after else ""
        self._last_id = self._last_id % 0xFFFF + 1
        packet_id = self._last_id if self._granted else 0
        self._send(packets.publish(topic, orjson.dumps(answer.document), packet_id))


class Doorway(asyncio.Protocol):
    """Reads a client's CONNECT and hands the connection to the service it is for.

    Args:
        hub: the hub, which also gets everything that is no proper CONNECT.
        service: the provisioning service.
    """

    def __init__(self, hub: "Hub", service: Provisioning) -> None:
        self._hub = hub
        self._service = service
        self._transport: asyncio.Transport | None = None
        self._heard = b""
        self._chosen: DeviceConnection | ProvisioningConnection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._began = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        self._transport = cast(asyncio.Transport, transport)
        if self._hub.faults.strikes(PARTITION):
            self._transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(HELLO_SECONDS, self._transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        if self._timer is not None:
            self._timer.cancel()
        if self._chosen is not None:
            self._chosen.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Wait for CONNECT to be whole; after that, over a WebSocket, pass everything on."""
        if self._chosen is not None:
            self._chosen.data_received(data)
            return
        self._heard += data
        if not _whole(self._heard) or self._transport is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        chosen = ProvisioningConnection(self._service)
        self._chosen = chosen if _for_provisioning(self._heard) else DeviceConnection(self._hub)
        if hasattr(self._transport, "set_protocol"):
            self._transport.set_protocol(self._chosen)
        self._chosen.connection_made(self._transport)
        heard, self._heard = self._heard, b""
        self._chosen.data_received(heard)


def _whole(heard: bytes) -> bool:
    """Say whether the first packet is there, or is sure to be none that could be waited for."""
    try:
        found = packets.length_at(heard, 1)
    except Malformed:
        return True
    if found is None:
        return False
    length, start = found
    return length > PACKET_LIMIT or len(heard) >= start + length


def _for_provisioning(heard: bytes) -> bool:
    """Say whether the first packet is a CONNECT to the provisioning service."""
    try:
        found = packets.length_at(heard, 1)
        if found is None or heard[0] >> 4 != packets.CONNECT:
            return False
        length, start = found
        username = packets.read_connect(heard[start : start + length]).username
    except Malformed:
        return False
    return _USERNAME.fullmatch(username or "") is not None


def _object(payload: bytes) -> dict[str, object]:
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise ProvisioningFault(BAD_REQUEST, "The body must be a JSON object.")
    return document
