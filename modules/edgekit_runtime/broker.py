"""A client of the device's MQTT broker that acknowledges a message when its work is safe.

paho-mqtt 1.6.1, the version azure-iot-device pins, sends PUBACK as soon as `on_message` returns.
Here `on_message` hands over a `Delivery`, and PUBACK goes out when `acknowledge` is called with it,
from any thread. What was never acknowledged, the broker sends again on the next connection.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as mqtt

from edgekit_runtime.settings import Address

log = logging.getLogger(__name__)

KEEPALIVE = 30  # seconds
RETRY = (1, 8)  # seconds before the first and the later attempts to reconnect
IN_FLIGHT = 200  # messages sent and not yet acknowledged by the broker


@dataclass(frozen=True)
class Delivery:
    """A message that the broker holds until it is acknowledged."""

    topic: str
    payload: bytes
    mid: int
    connection: int


class Broker(mqtt.Client):
    """A persistent session on the device's broker.

    Args:
        client_id: stable over restarts: the broker keeps the session under this name.
        topic: what to subscribe to, at QoS 1, on every connection.
        on_delivery: called with every message, in the client's thread; it must not raise.

    Attributes:
        subscribed: set once the broker granted the subscription for the first time.
        on_subscribed: called in the client's thread each time it grants it.
    """

    def __init__(self, client_id: str, topic: str, on_delivery: Callable[[Delivery], None]) -> None:
        super().__init__(client_id=client_id, clean_session=False, protocol=mqtt.MQTTv311)
        self.subscribed = threading.Event()
        self.on_subscribed: Callable[[], None] = lambda: None
        self._topic = topic
        self._on_delivery = on_delivery
        self._connection = 0
        self._acknowledging = threading.Lock()
        self.max_inflight_messages_set(IN_FLIGHT)
        self.reconnect_delay_set(*RETRY)
        self.on_connect = self._connected
        self.on_disconnect = self._disconnected
        self.on_subscribe = self._granted
        self.on_message = self._received

    def open(self, address: Address) -> None:
        """Connect in the background, and again whenever the connection is lost."""
        self.connect_async(address.host, address.port, KEEPALIVE)
        self.loop_start()

    def close(self) -> None:
        """Disconnect; what was not acknowledged comes again with the next session."""
        self.disconnect()
        self.loop_stop()

    def acknowledge(self, delivery: Delivery) -> None:
        """Let the broker forget a message; nothing happens if its connection is gone.

        After a reconnect the broker sends the message again, perhaps under another packet id, so an
        old acknowledgement must not reach the new connection.
        """
        with self._acknowledging:
            if delivery.connection == self._connection:
                super()._send_puback(delivery.mid)  # type: ignore[misc] # not in the stubs

    def is_current(self, delivery: Delivery) -> bool:
        """Whether a message came on this connection; if not, it comes or came again."""
        return delivery.connection == self._connection

    # what paho calls

    def reconnect(self) -> Any:
        """Connect anew; acknowledgements of the old connection end here."""
        # paho empties its queue of packets in here, and with it what was acknowledged before
        with self._acknowledging:
            self._connection += 1
        return super().reconnect()

    def _send_puback(self, _mid: int) -> int:
        """Called by paho after `on_message`: too early."""
        return mqtt.MQTT_ERR_SUCCESS

    def _connected(self, _client: Any, _data: Any, _flags: dict[str, Any], code: int) -> None:
        if code != mqtt.CONNACK_ACCEPTED:
            log.warning("the broker refuses: %s", mqtt.connack_string(code))
            return
        self.subscribe(self._topic, qos=1)

    def _granted(self, _client: Any, _data: Any, _mid: int, granted: tuple[int, ...]) -> None:
        if 1 not in granted:
            log.error("the broker refuses the subscription to %s", self._topic)
            return
        log.info("subscribed to %s", self._topic)
        self.subscribed.set()
        self.on_subscribed()

    def _disconnected(self, _client: Any, _data: Any, code: int) -> None:
        if code:
            log.warning("lost the broker: %s", mqtt.error_string(code))

    def _received(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        self._on_delivery(
            Delivery(message.topic, bytes(message.payload), message.mid, self._connection)
        )
