"""Test images into the devices' brokers, results out of the hub, and the account of both."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
import paho.mqtt.client as mqtt
from numpy.typing import NDArray

from edgekit.errors import EdgekitError

# seconds a broker on this machine may take for one message
BROKER_PATIENCE = 20.0
INPUT_TOPIC = "edgekit/scorer/inputs/input1"


def infer_request(identifier: str, image: NDArray[np.float32]) -> bytes:
    """An Open Inference Protocol V2 request for one image, float32 [1, 8, 8].

    Format: https://github.com/kserve/open-inference-protocol, REST, with JSON tensors.
    """
    tensor = {
        "name": "image",
        "shape": [1, *image.shape],
        "datatype": "FP32",
        "data": image.ravel().tolist(),
    }
    return json.dumps({"id": identifier, "inputs": [tensor]}).encode()


def prediction(response: Mapping[str, Any]) -> int:
    """The digit with the highest logit in a V2 response.

    Raises:
        EdgekitError: the response is an error of the scorer.
    """
    if "error" in response:
        raise EdgekitError(f"the scorer refused {response.get('id')}: {response['error']}")
    (logits,) = [output["data"] for output in response["outputs"] if output["name"] == "logits"]
    return int(np.argmax(logits))


class Feeder:
    """Hands images to one device's local broker; each send returns once the broker has it."""

    def __init__(self, host: str, port: int) -> None:
        self._client = mqtt.Client(client_id="edgekit-demo-camera", clean_session=True)
        self._address = (host, port)

    def __enter__(self) -> Self:
        self._client.connect(*self._address)
        self._client.loop_start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def send(self, identifier: str, image: NDArray[np.float32]) -> None:
        """Publish one image with QoS 1 and wait for the broker's acknowledgement."""
        message = self._client.publish(INPUT_TOPIC, infer_request(identifier, image), qos=1)
        message.wait_for_publish(BROKER_PATIENCE)
        if not message.is_published():
            host, port = self._address
            raise EdgekitError(
                f"the broker at {host}:{port} did not take {identifier} in {BROKER_PATIENCE:.0f} s"
            )


@dataclass
class Ledger:
    """What was sent and what came, by message id.

    The law it holds: sent = received + lost, and every arrival is either the first of its id or a
    duplicate.
    """

    sent: dict[str, int] = field(default_factory=dict)
    received: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    last_event: int = 0

    def expect(self, identifier: str, digit: int) -> None:
        """Note that a result for `identifier` must come and say `digit`."""
        if identifier in self.sent:
            raise ValueError(f"{identifier} was sent before")
        self.sent[identifier] = digit

    def take(self, events: Iterable[Mapping[str, Any]]) -> int:
        """Enter the hub's events, oldest first; returns how many results are new."""
        before = len(self.received)
        for event in events:
            self.last_event = max(self.last_event, int(event["sequence"]))
            identifier = event["systemProperties"].get("message-id")
            if identifier not in self.sent:
                continue
            if identifier in self.received:
                self.duplicates += 1
                continue
            self.received[identifier] = prediction(event["body"])
        return len(self.received) - before

    @property
    def lost(self) -> int:
        """How many results have not come."""
        return len(self.sent) - len(self.received)

    @property
    def mismatches(self) -> int:
        """How many results that came say another digit than was expected."""
        return sum(digit != self.sent[key] for key, digit in self.received.items())
