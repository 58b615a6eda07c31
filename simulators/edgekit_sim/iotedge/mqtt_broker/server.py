"""The broker's connections: packets in, packets out."""

import asyncio
import logging
import secrets
from pathlib import Path
from typing import cast

from edgekit_sim.iotedge.mqtt_broker.sessions import Sessions
from edgekit_sim.iotedge.mqtt_broker.topics import is_filter, is_name
from edgekit_sim.iothub.mqtt import packets
from edgekit_sim.iothub.mqtt.packets import Malformed

log = logging.getLogger(__name__)

WINDOW = 200  # QoS 1 messages a client has not acknowledged
PACKET_LIMIT = 16 << 20  # bytes
BEHIND = 4 << 20  # bytes a client may be behind before it misses QoS 0 messages
FIRST = 10.0  # seconds until CONNECT must have come


class Broker:
    """What the connections share.

    Args:
        sessions: what is kept.
    """

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.connections: dict[str, Connection] = {}
        self._committing = False
        self._woken: set[str] = set()

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> None:
        """Hand a message to everybody who takes its topic."""
        if retain:
            self.sessions.retain(topic, payload)
        for client, granted in list(self.sessions.subscribers(topic)):
            if min(granted, qos):
                self.sessions.queue(client, topic, payload)
                self._woken.add(client)
            elif connection := self.connections.get(client):
                connection.send_once(topic, payload)
        self.commit_soon()

    def wake(self, client: str) -> None:
        """Send a client what is queued for it, after the next commit."""
        self._woken.add(client)
        self.commit_soon()

    def commit_soon(self) -> None:
        """Commit once for everything that this turn of the event loop brings."""
        if not self._committing:
            self._committing = True
            asyncio.get_running_loop().call_soon(self._commit)

    def _commit(self) -> None:
        self._committing = False
        self.sessions.commit()
        woken, self._woken = self._woken, set()
        for client in woken:
            if connection := self.connections.get(client):
                connection.send_queued()


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._client = ""
        self._clean = True
        self._will: tuple[str, bytes] | None = None
        self._patience = FIRST
        self._sent = 0  # position of the last queued message sent
        self._in_flight: dict[int, int] = {}  # packet id -> position
        self._last_id = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        self._transport = cast(asyncio.Transport, transport)
        self._timer = self._loop.call_later(self._patience, self._transport.abort)

    def connection_lost(self, _error: Exception | None) -> None:
        """It went away: its will is published unless it said goodbye."""
        self._timer.cancel()
        if self._broker.connections.get(self._client) is self:
            del self._broker.connections[self._client]
            if self._clean:
                self._broker.sessions.forget(self._client)
                self._broker.commit_soon()
        if self._will is not None:
            self._broker.publish(*self._will, qos=0, retain=False)

    def data_received(self, data: bytes) -> None:
        """Cut the bytes into packets and handle them."""
        self._timer.cancel()
        if self._patience:
            self._timer = self._loop.call_later(self._patience, self._transport.abort)
        data = self._rest + data
        position = 0
        try:
            while len(data) - position >= 2 and not self._transport.is_closing():
                found = packets.length_at(data, position + 1)
                if found is None:
                    break
                length, start = found
                if length > PACKET_LIMIT:
                    raise Malformed(f"a packet of {length} bytes")
                if start + length > len(data):
                    break
                self._packet(data[position], data[start : start + length])
                position = start + length
        except Malformed as error:
            log.warning("%s dropped: %s", self._client or "a client", error)
            self._transport.abort()
        self._rest = data[position:]

    def _packet(self, first: int, body: bytes) -> None:
        kind = first >> 4
        if (kind == packets.CONNECT) == bool(self._client):
            raise Malformed("CONNECT is the first packet, and no other")
        match kind:
            case packets.CONNECT:
                self._connect(packets.read_connect(body))
            case packets.PUBLISH:
                self._publish(first, body)
            case packets.PUBACK:
                self._acknowledged(packets.Reader(body).integer(2))
            case packets.SUBSCRIBE:
                self._subscribe(*packets.read_subscribe(body))
            case packets.UNSUBSCRIBE:
                self._unsubscribe(*packets.read_unsubscribe(body))
            case packets.PINGREQ:
                self._transport.write(packets.PING_RESPONSE)
            case packets.DISCONNECT:
                self._will = None
                self._transport.close()
            case _:
                raise Malformed(f"a packet of type {kind}")

    def _connect(self, packet: packets.Connect) -> None:
        if packet.level != 4 or (not packet.client_id and not packet.clean_session):
            code = packets.BAD_PROTOCOL if packet.level != 4 else packets.BAD_CLIENT_ID
            self._transport.write(packets.connack(code))
            self._transport.close()
            return
        self._client = packet.client_id or secrets.token_hex(8)
        self._clean, self._will = packet.clean_session, packet.will
        self._patience = packet.keep_alive * 1.5
        if earlier := self._broker.connections.get(self._client):
            earlier._transport.abort()
        self._broker.connections[self._client] = self
        present = self._broker.sessions.open(self._client, self._clean)
        self._after_commit(packets.connack(packets.ACCEPTED, present))
        self._broker.wake(self._client)

    def _publish(self, first: int, body: bytes) -> None:
        reader, qos = packets.Reader(body), first >> 1 & 3
        if qos > 1:
            raise Malformed("a message with QoS 2 or 3")
        topic = reader.text()
        if not is_name(topic):
            raise Malformed(f"a message to {topic[:80]!r}")
        head = 2 + len(topic.encode())
        packet_id = reader.integer(2) if qos else 0
        payload = body[head + (2 if qos else 0) :]
        self._broker.publish(topic, payload, qos, bool(first & 1))
        if qos:
            self._after_commit(packets.puback(packet_id))

    def _after_commit(self, packet: bytes) -> None:
        """Answer once everything before is on disk."""
        self._broker.sessions.when_on_disk(lambda: self._transport.write(packet))
        self._broker.commit_soon()

    def _acknowledged(self, packet_id: int) -> None:
        position = self._in_flight.pop(packet_id, None)
        if position is not None:
            self._broker.sessions.acknowledged(position)
            self._broker.wake(self._client)

    def _subscribe(self, packet_id: int, filters: list[tuple[str, int]]) -> None:
        sessions, codes = self._broker.sessions, []
        for text, qos in filters:
            if not is_filter(text):
                codes.append(packets.REFUSED_SUBSCRIPTION)
                continue
            granted = min(qos, 1)
            codes.append(granted)
            sessions.subscribe(self._client, text, granted)
        self._after_commit(packets.suback(packet_id, codes))
        for (text, _), granted in zip(filters, codes, strict=True):
            if granted == packets.REFUSED_SUBSCRIPTION:
                continue
            for topic, payload in sessions.retained(text):
                sessions.queue(self._client, topic, payload, retained=True)
        self._broker.wake(self._client)

    def _unsubscribe(self, packet_id: int, filters: list[str]) -> None:
        for text in filters:
            self._broker.sessions.unsubscribe(self._client, text)
        self._after_commit(packets.unsuback(packet_id))

    def send_once(self, topic: str, payload: bytes) -> None:
        """Send a QoS 0 message, if the client keeps up."""
        if self._transport.get_write_buffer_size() < BEHIND:
            self._transport.write(packets.publish(topic, payload))

    def send_queued(self) -> None:
        """Send what is queued, as far as the window goes."""
        room = WINDOW - len(self._in_flight)
        if room <= 0 or self._transport.is_closing():
            return
        for position, topic, payload, retained in self._broker.sessions.queued(
            self._client, self._sent, room
        ):
            packet = packets.publish(topic, payload, self._new_id(position))
            self._transport.write(bytes([packet[0] | retained]) + packet[1:])
            self._sent = position

    def _new_id(self, position: int) -> int:
        while True:
            self._last_id = self._last_id % 0xFFFF + 1
            if self._last_id not in self._in_flight:
                self._in_flight[self._last_id] = position
                return self._last_id


async def serve(address: str, port: int, path: Path) -> None:
    """Serve anybody who reaches `address`, until cancelled.

    Args:
        address: where to listen.
        port: its port.
        path: the database of sessions.
    """
    sessions = Sessions(path)
    broker = Broker(sessions)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(broker), address, port)
    try:
        await asyncio.Event().wait()
    finally:
        server.close()
        sessions.close()
