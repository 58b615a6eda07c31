"""The models behind the device's MQTT broker: `inputs/input1` in, `outputs/output1` out.

Everything happens in the client's one thread, so nothing piles up here: while an input is scored
the next ones wait in the socket. An input is acknowledged when the broker has acknowledged its
output. Killed in between, the scorer gets the input again and sends the output a second time, with
the same id.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

import orjson
import paho.mqtt.client as mqtt

from edgekit_runtime.broker import Broker, Delivery
from edgekit_runtime.errors import ModuleError
from edgekit_runtime.serving.metrics import Metrics
from edgekit_runtime.serving.models import Models
from edgekit_runtime.serving.requests import answer_message
from edgekit_runtime.settings import Address

log = logging.getLogger(__name__)


class Door:
    """Scores what arrives on `edgekit/{module}/inputs/input1`.

    Attributes:
        subscribed: set once the broker has granted the subscription; inputs are kept from then on.
        failure: why it ended by itself, else None.
    """

    def __init__(self, models: Models, metrics: Metrics, module: str, address: Address) -> None:
        self._models = models
        self._metrics = metrics
        self._address = address
        self._output = f"edgekit/{module}/outputs/output1"
        self._unconfirmed: dict[int, Delivery] = {}
        self._on_failure: Callable[[], None] = lambda: None
        self.failure: ModuleError | None = None
        self._broker = Broker(
            f"edgekit-{module}", f"edgekit/{module}/inputs/input1", self._on_input
        )
        self._status = f"edgekit/{module}/status"
        self._broker.on_publish = self._confirmed
        self._broker.on_subscribed = self.announce
        self.subscribed = self._broker.subscribed

    def open(self, on_failure: Callable[[], None]) -> None:
        """Start; `on_failure` is called from another thread if scoring cannot go on."""
        self._on_failure = on_failure
        self._broker.open(self._address)

    def close(self) -> None:
        """Disconnect; inputs without a confirmed output come again."""
        self._broker.close()

    def _on_input(self, delivery: Delivery) -> None:
        begin = time.perf_counter()
        try:
            name, output = answer_message(self._models, delivery.payload)
        except Exception:
            # not the input's fault: end, unacknowledged, and let the supervisor start us again
            log.exception("cannot go on")
            self.failure = ModuleError("scoring failed; the input stays with the broker")
            self._on_failure()
            return
        self._metrics.count_message(name, time.perf_counter() - begin)
        self._unconfirmed[self._broker.publish(self._output, output, qos=1).mid] = delivery

    def announce(self) -> None:
        """Say what is served, from now on without losing an input.

        Retained, and true also while we are away. Nothing is said before the subscription.
        """
        if not self.subscribed.is_set():
            return
        served = [{"model": model.name, "version": model.version} for model in self._models]
        about = {"models": served, "ready": bool(served)}
        if len(served) == 1:
            about |= served[0]
        self._broker.publish(self._status, orjson.dumps(about), qos=1, retain=True)

    def _confirmed(self, _client: mqtt.Client, _data: Any, mid: int) -> None:
        delivery = self._unconfirmed.pop(mid, None)
        if delivery is not None:  # else it was the status
            self._broker.acknowledge(delivery)
