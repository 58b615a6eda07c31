"""Connections to the hub that the edge hub makes on behalf of its modules, one for each."""

import asyncio
import logging
import re
import ssl
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt

from edgekit_sim.iotedge.config import ConnectionString
from edgekit_sim.iotedge.identities import ModuleIdentity
from edgekit_sim.iothub import tokens

log = logging.getLogger(__name__)

PORT = 8883
KEEPALIVE = 15  # seconds
TOKEN_LIFE = 3600  # seconds
PAUSES = (1, 10)  # seconds before the first and the later attempts
API_VERSION = "2021-04-12"

_REQUEST = re.compile(r"\$iothub/twin/(?:GET|PATCH/properties/reported)/\?\$rid=([^&]*)")
_ANSWER = re.compile(r"\$iothub/twin/res/\d+/\?\$rid=([^&]*)")

Received = Callable[[str, str, bytes], None]
Sent = Callable[[str, int], None]


class ModuleLink:
    """A module's connection to the hub; it comes back by itself, with what it had not delivered.

    Args:
        connection: the device's, with the gateway to connect to.
        identity: the module's name and key.
        tls: how the hub's certificate is checked.
        received: called in the event loop with module, topic and payload.
        sent: called in the event loop with module and number of a message that the hub has.
    """

    def __init__(
        self,
        connection: ConnectionString,
        identity: ModuleIdentity,
        tls: ssl.SSLContext,
        received: Received,
        sent: Sent,
    ) -> None:
        self._connection = connection
        self._identity = identity
        self._received = received
        self._sent = sent
        self._loop = asyncio.get_running_loop()
        self._filters: set[str] = set()
        self._numbers: dict[int, int] = {}
        self._asked: dict[str, tuple[str, bytes]] = {}  # twin requests not yet answered, by number
        self._place = f"devices/{connection.device_id}/modules/{identity.name}"
        client = f"{connection.device_id}/{identity.name}"
        self._client = mqtt.Client(client, clean_session=True)
        self._client.tls_set_context(tls)
        self._client.reconnect_delay_set(*PAUSES)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._renew
        self._client.on_message = self._message
        self._client.on_publish = self._published
        self._renew()
        self._client.connect_async(connection.gateway, PORT, KEEPALIVE)
        self._client.loop_start()

    def _renew(self, *_: Any) -> None:
        """Have a fresh token ready for the next attempt."""
        host, name = self._connection.host, self._identity.name
        resource = f"{host}/devices/{self._connection.device_id}/modules/{name}"
        token = tokens.sign(resource, self._identity.key, int(time.time()) + TOKEN_LIFE)
        user = f"{host}/{self._connection.device_id}/{name}/?api-version={API_VERSION}"
        self._client.username_pw_set(user, token)

    def _connected(self, client: mqtt.Client, _data: Any, _flags: Any, code: int) -> None:
        if code != 0:
            log.warning("the hub refuses %s: %s", self._identity.name, mqtt.connack_string(code))
            return
        if self._filters:  # before anything else goes out, whose answers come there
            client.subscribe([(one, 1) for one in sorted(self._filters)])
        self._loop.call_soon_threadsafe(self._ask_again)

    def _message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        payload = bytes(message.payload)
        name = self._identity.name
        self._loop.call_soon_threadsafe(self._hear, name, message.topic, payload)

    def _hear(self, name: str, topic: str, payload: bytes) -> None:
        if match := _ANSWER.match(topic):
            self._asked.pop(match[1], None)
        self._received(name, topic, payload)

    def _ask_again(self) -> None:
        """The SDK would wait for ever for an answer that was lost with the connection."""
        for topic, payload in self._asked.values():
            self._client.publish(topic, payload, qos=1)

    def _published(self, _client: Any, _data: Any, packet: int) -> None:
        self._loop.call_soon_threadsafe(self._confirm, packet)

    def _confirm(self, packet: int) -> None:
        number = self._numbers.pop(packet, None)
        if number is not None:
            self._sent(self._identity.name, number)

    @property
    def idle(self) -> bool:
        """Whether all that was sent has arrived."""
        return not self._numbers

    def subscribe(self, filters: set[str]) -> None:
        """Receive what comes for these topics, too."""
        new = filters - self._filters
        self._filters |= filters
        if new and self._client.is_connected():
            self._client.subscribe([(one, 1) for one in sorted(new)])

    def publish(self, topic: str, payload: bytes) -> None:
        """Pass on what the module says of its twin or its methods."""
        if match := _REQUEST.match(topic):
            self._asked[match[1]] = (topic, payload)
        self._client.publish(topic, payload, qos=1)

    def send(self, number: int, properties: str, body: bytes) -> None:
        """Send a message; `sent` is called with its number when the hub has it."""
        topic = f"{self._place}/messages/events/{properties}"
        self._numbers[self._client.publish(topic, body, qos=1).mid] = number

    def close(self) -> None:
        """End the connection; what has not arrived is not waited for."""
        self._client.disconnect()
        self._client.loop_stop()
