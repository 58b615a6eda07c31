"""One client's connection: bytes in, packets out.

The path of a telemetry message is kept short: it is cut out of the bytes, its topic compared with
the client's own, and queued for the disk; the acknowledgement goes out with those of its group.
"""

import asyncio
import logging
import time
from typing import Protocol, cast
from urllib.parse import parse_qsl

from edgekit_sim.iothub.client_certificates import chain_of
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.events import BODY_LIMIT
from edgekit_sim.iothub.faults import DELAY, DROP, LOSE_ACKS, PARTITION, Fault, Faults
from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.mqtt import packets
from edgekit_sim.iothub.mqtt.packets import Malformed
from edgekit_sim.iothub.mqtt.sessions import TWIN, Session, Sessions, feature_of
from edgekit_sim.iothub.quotas import Quotas
from edgekit_sim.iothub.store import Acknowledges, Store

logger = logging.getLogger(__name__)

PACKET_LIMIT = BODY_LIMIT + 64 * 1024 + 16  # a full message with the longest topic
UNACKNOWLEDGED_LIMIT = 2000  # messages not yet on disk, after which a client has to wait
HELLO_SECONDS = 20  # for TLS and CONNECT


class Gate(Protocol):
    """Who lets clients in."""

    def device(
        self, device_id: str, module_id: str, password: str | None, chain: tuple[bytes, ...]
    ) -> tuple[Identity, float]:
        """The identity of a client, and until when it may stay; a HubFault refuses it."""


class Takes(Protocol):
    """Who takes messages."""

    def telemetry(
        self,
        identity: Identity,
        properties: str,
        body: bytes,
        sender: Acknowledges | None = None,
        packet_id: int = 0,
    ) -> None:
        """Take a message; its sender, if given, is told when it is safe."""


class Front(Protocol):
    """What a connection needs of the hub, or edge hub, that it is to."""

    @property
    def faults(self) -> Faults:
        """Faults in force."""

    @property
    def quotas(self) -> Quotas:
        """The rates that hold."""

    @property
    def sessions(self) -> Sessions:
        """What is remembered of clients."""

    @property
    def gatekeeper(self) -> Gate:
        """Who lets clients in."""

    @property
    def router(self) -> Takes:
        """Who takes messages."""

    @property
    def store(self) -> Store:
        """Where messages are kept."""

    @property
    def open_connections(self) -> "set[DeviceConnection]":
        """All connections."""

    def connected(self, connection: "DeviceConnection") -> None:
        """A client has proved who it is."""

    def disconnected(self, connection: "DeviceConnection", will: tuple[str, bytes] | None) -> None:
        """A client has gone; with a will that it did not take back."""

    def ready(self, connection: "DeviceConnection") -> None:
        """A client has connected or subscribed."""

    def delivered(self, connection: "DeviceConnection", tag: int) -> None:
        """A client has acknowledged what was delivered with a tag."""

    def request(self, connection: "DeviceConnection", topic: str, payload: bytes) -> None:
        """A client publishes to a topic that is not for messages; Malformed closes it."""

    def set_model(self, identity: Identity, model_id: str) -> None:
        """A client announces its model."""


class DeviceConnection(asyncio.Protocol):
    """The hub's end of one MQTT connection, over TLS, WebSocket or plain TCP.

    Attributes:
        identity: who is connected; None before CONNECT.
        last_seen: monotonic time of the last bytes.
        expires: when the client's token ends, seconds since 1970.
    """

    __slots__ = (
        "_events_topic",
        "_hub",
        "_out",
        "_paused",
        "_rest",
        "_transport",
        "_unacknowledged",
        "_will",
        "expires",
        "identity",
        "keep_alive",
        "last_seen",
        "session",
    )

    def __init__(self, hub: Front) -> None:
        self._hub = hub
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._out: list[bytes] = []
        self._unacknowledged = 0
        self._paused = False
        self._events_topic = b""
        self._will: tuple[str, bytes] | None = None
        self.identity: Identity | None = None
        self.session: Session | None = None
        self.keep_alive = float(HELLO_SECONDS)
        self.expires = float("inf")
        self.last_seen = time.monotonic()

    # ---- transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        self._transport = cast(asyncio.Transport, transport)
        if self._hub.faults.strikes(PARTITION):
            self.abort()
            return
        self._hub.open_connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        del exc
        self._transport = None
        self._hub.open_connections.discard(self)
        if self.identity is not None:
            self._hub.disconnected(self, self._will)

    def data_received(self, data: bytes) -> None:
        """Cut the bytes into packets and handle them."""
        self.last_seen = time.monotonic()
        if self._rest:
            data = self._rest + data
        position = 0
        try:
            while len(data) - position >= 2:
                found = packets.length_at(data, position + 1)
                if found is None:
                    break
                length, start = found
                if length > PACKET_LIMIT:
                    raise Malformed(f"a packet of {length} bytes")
                if start + length > len(data):
                    break
                self._packet(data[position], data[start : start + length])
                if self._transport is None:
                    return
                position = start + length
        except (Malformed, HubFault) as error:
            logger.info("%s dropped: %s", self._name, error)
            self.abort()
            return
        self._rest = data[position:]

    def send(self, packet: bytes) -> None:
        """Write a packet; nothing happens when the client has gone."""
        if self._transport is not None:
            self._transport.write(packet)

    def close(self) -> None:
        """Close the connection after what has been written."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Reset the connection."""
        transport, self._transport, self._rest = self._transport, None, b""
        if transport is not None:
            transport.abort()

    @property
    def _name(self) -> str:
        return self.identity.client_id if self.identity else "a client without name"

    # ---- packets

    def _packet(self, first: int, body: bytes) -> None:
        kind = first >> 4
        if kind == packets.PUBLISH and self.identity is not None:
            self._publish(first, body)
            return
        if (kind == packets.CONNECT) is (self.identity is not None):
            raise Malformed("CONNECT must come first and once")
        if first & 0x0F != (2 if kind in (packets.SUBSCRIBE, packets.UNSUBSCRIBE) else 0):
            raise Malformed("reserved flags that are not as they must be")
        if kind == packets.PUBACK:
            self._puback(body)
        elif kind == packets.PINGREQ:
            self.send(packets.PING_RESPONSE)
        elif kind == packets.CONNECT:
            self._connect(packets.read_connect(body))
        elif kind == packets.SUBSCRIBE:
            self._subscribe(body)
        elif kind == packets.UNSUBSCRIBE:
            self._unsubscribe(body)
        elif kind == packets.DISCONNECT:
            self._will = None
            self.close()
        else:
            raise Malformed(f"a packet of type {kind}")

    def _connect(self, connect: packets.Connect) -> None:
        code = self._connect_code(connect)
        if code != packets.ACCEPTED:
            self.send(packets.connack(code))
            self.close()
            return
        assert self.identity is not None
        self._will = connect.will
        self.keep_alive = connect.keep_alive * 1.5 if connect.keep_alive else float("inf")
        base = f"devices/{self.identity.client_id.replace('/', '/modules/', 1)}/messages/events"
        self._events_topic = base.encode()
        self.session, present = self._hub.sessions.open(
            self.identity.client_id, connect.clean_session
        )
        self._hub.connected(self)
        self.send(packets.connack(packets.ACCEPTED, present))
        self.session.resend()
        self._hub.ready(self)

    def _connect_code(self, connect: packets.Connect) -> int:
        if connect.level != 4:
            return packets.BAD_PROTOCOL
        device_id, _, module_id = connect.client_id.partition("/")
        if not device_id:
            return packets.BAD_CLIENT_ID
        if self._hub.faults.strikes(PARTITION, device_id):
            self.abort()
            return packets.UNAVAILABLE
        if not self._hub.quotas.connect():
            logger.info("%s: more connections in a second than the tier has", device_id[:140])
            return packets.UNAVAILABLE
        path, _, query = (connect.username or "").partition("/?")
        host, _, named = path.partition("/")
        if named.rstrip("/") != connect.client_id or not host:
            logger.info("%s: the user name does not fit the client id", connect.client_id[:140])
            return packets.BAD_CREDENTIALS
        try:
            self.identity, self.expires = self._hub.gatekeeper.device(
                device_id, module_id, connect.password, self._chain()
            )
        except HubFault as fault:
            logger.info("%s refused: %s", connect.client_id[:260], fault)
            return packets.NOT_AUTHORIZED
        self._hub.set_model(self.identity, dict(parse_qsl(query)).get("model-id", ""))
        return packets.ACCEPTED

    def _chain(self) -> tuple[bytes, ...]:
        return chain_of(self._transport.get_extra_info("ssl_object") if self._transport else None)

    def _publish(self, first: int, body: bytes) -> None:
        qos = (first >> 1) & 3
        if qos > 1:
            raise Malformed("a message with QoS 2, which the service does not take")
        if len(body) < 2:
            raise Malformed("PUBLISH without a topic")
        end = 2 + int.from_bytes(body[:2])
        topic = body[2:end]
        packet_id = 0
        if qos:
            packet_id = int.from_bytes(body[end : end + 2])
            end += 2
            if packet_id == 0:
                raise Malformed("PUBLISH with packet id 0")
        if end > len(body):
            raise Malformed("PUBLISH shorter than its topic")
        if self._hub.faults.active and self._strikes(DROP):
            self.abort()
            return
        if topic.startswith(self._events_topic):
            self._telemetry(topic, body[end:], packet_id, bool(first & 1))
            return
        if packet_id:
            self.send(packets.puback(packet_id))
        try:
            text = topic.decode()
        except UnicodeDecodeError as error:
            raise Malformed("a topic that is not UTF-8") from error
        assert self.session is not None
        self._hub.request(self, text, body[end:])

    def _telemetry(self, topic: bytes, payload: bytes, packet_id: int, retain: bool) -> None:
        rest = topic[len(self._events_topic) :]
        if rest[:1] not in (b"", b"/"):
            raise Malformed("a topic of another client")
        if len(payload) + len(rest) > BODY_LIMIT:
            raise Malformed(f"a message of more than {BODY_LIMIT} bytes")
        try:
            properties = rest.strip(b"/").decode()
        except UnicodeDecodeError as error:
            raise Malformed("a topic that is not UTF-8") from error
        if retain:  # the service keeps nothing retained and says so in a property
            properties = f"{properties}&mqtt-retain=true".lstrip("&")
        assert self.identity is not None
        self._hub.quotas.count_message(len(payload) + len(rest))
        if packet_id:
            self._hub.router.telemetry(self.identity, properties, payload, self, packet_id)
            self._unacknowledged += 1
        else:
            self._hub.router.telemetry(self.identity, properties, payload)
        store = self._hub.store
        if self._paused:
            return
        if self._unacknowledged > UNACKNOWLEDGED_LIMIT or store.congested:
            self._pause()
            store.then(self._resume)
        elif wait := self._hub.quotas.send():
            self._pause()
            asyncio.get_running_loop().call_later(wait, self._resume)

    def _pause(self) -> None:
        """Read no more until `_resume`."""
        self._paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def _resume(self) -> None:
        self._paused = False
        self.last_seen = time.monotonic()
        if self._transport is not None:
            self._transport.resume_reading()

    def _strikes(self, kind: str) -> Fault | None:
        device_id = self.identity.device_id if self.identity else None
        return self._hub.faults.strikes(kind, device_id)

    def acknowledge(self, packet_id: int) -> None:
        """A message is on disk: acknowledge it with the next `flush`."""
        self._unacknowledged -= 1
        if self._hub.faults.active and self._strikes(LOSE_ACKS):
            self.abort()
        self._out.append(packets.puback(packet_id))

    def flush(self) -> None:
        """Send the acknowledgements of a group in one piece."""
        delay = self._strikes(DELAY) if self._hub.faults.active and self._out else None
        if delay is not None:
            late, self._out = b"".join(self._out), []
            asyncio.get_running_loop().call_later(max(0.0, delay.seconds), self.send, late)
        if self._transport is not None and self._out:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def _puback(self, body: bytes) -> None:
        if len(body) != 2:
            raise Malformed("PUBACK of a wrong length")
        assert self.session is not None
        delivered = self.session.in_flight.pop(int.from_bytes(body), None)
        if delivered is not None and delivered[2]:
            self._hub.delivered(self, delivered[2])

    def _subscribe(self, body: bytes) -> None:
        packet_id, filters = packets.read_subscribe(body)
        assert self.identity is not None
        assert self.session is not None
        codes = []
        for topic_filter, qos in filters:
            feature = feature_of(topic_filter, self.identity.device_id, self.identity.module_id)
            if feature is None:
                logger.info("%s may not subscribe to %s", self._name, topic_filter[:200])
                codes.append(packets.REFUSED_SUBSCRIPTION)
                continue
            granted = min(qos, 0 if feature == TWIN else 1)
            self.session.features[feature] = granted
            codes.append(granted)
        self._hub.sessions.save(self.session)
        self.send(packets.suback(packet_id, codes))
        self._hub.ready(self)

    def _unsubscribe(self, body: bytes) -> None:
        packet_id, filters = packets.read_unsubscribe(body)
        assert self.identity is not None
        assert self.session is not None
        for topic_filter in filters:
            feature = feature_of(topic_filter, self.identity.device_id, self.identity.module_id)
            self.session.features.pop(feature or "", None)
        self._hub.sessions.save(self.session)
        self.send(packets.unsuback(packet_id))
