"""The model behind the device's MQTT broker: `inputs/input1` in, `outputs/output1` out.

Everything happens in the client's one thread, so nothing piles up here: while an input is scored
the next ones wait in the socket. An input is acknowledged when the broker has acknowledged its
output. Killed in between, the scorer gets the input again and sends the output a second time, with
the same id.
"""

import logging
from collections.abc import Callable
from typing import Any

import orjson
import paho.mqtt.client as mqtt

from edgekit_runtime.broker import Broker, Delivery
from edgekit_runtime.errors import ModuleError, RequestError
from edgekit_runtime.scorer.http import write_json
from edgekit_runtime.scorer.model import Model
from edgekit_runtime.settings import Address

log = logging.getLogger(__name__)


class Door:
    """Scores what arrives on `edgekit/{module}/inputs/input1`.

    Attributes:
        subscribed: set once the broker has granted the subscription; inputs are kept from then on.
        failure: why it ended by itself, else None.
    """

    def __init__(self, model: Model, module: str, address: Address) -> None:
        self._model = model
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
        self._broker.on_subscribed = self._announce
        self.subscribed = self._broker.subscribed

    def open(self, on_failure: Callable[[], None]) -> None:
        """Start; `on_failure` is called from another thread if scoring cannot go on."""
        self._on_failure = on_failure
        self._broker.open(self._address)

    def close(self) -> None:
        """Disconnect; inputs without a confirmed output come again."""
        self._broker.close()

    def _on_input(self, delivery: Delivery) -> None:
        try:
            output = answer(self._model, delivery.payload)
        except Exception:
            # not the input's fault: end, unacknowledged, and let the supervisor start us again
            log.exception("cannot go on")
            self.failure = ModuleError("scoring failed; the input stays with the broker")
            self._on_failure()
            return
        self._unconfirmed[self._broker.publish(self._output, output, qos=1).mid] = delivery

    def _announce(self) -> None:
        """Say that no input is lost from now on; retained, and true also while we are away."""
        about = {"model": self._model.name, "version": self._model.version, "ready": True}
        self._broker.publish(self._status, orjson.dumps(about), qos=1, retain=True)

    def _confirmed(self, _client: mqtt.Client, _data: Any, mid: int) -> None:
        delivery = self._unconfirmed.pop(mid, None)
        if delivery is not None:  # else it was the status
            self._broker.acknowledge(delivery)


def answer(model: Model, payload: bytes) -> bytes:
    """The output for one input: a V2 response, or `{"id", "error"}`."""
    identity = None
    try:
        request = orjson.loads(payload)
        if not isinstance(request, dict) or not isinstance(request.get("id"), str):
            raise RequestError("the input needs an id, a string")
        identity = request["id"]
        return write_json(model.infer(request))
    except orjson.JSONDecodeError as error:
        return write_json({"id": identity, "error": f"the input is not JSON: {error}"})
    except RequestError as error:
        return write_json({"id": identity, "error": str(error)})
