"""The agent as the process it is on a device: a message it acknowledged is never lost."""

import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest

from edgekit_runtime.telemetry.store import Counts, Store

TOPIC = "edgekit/scorer/outputs/output1"

pytestmark = pytest.mark.needs("mosquitto")


class Sender:
    """Publishes outputs and hears the agent's status."""

    def __init__(self, broker: str) -> None:
        self.status: dict[str, Any] = {}
        host, port = broker.split(":")
        self.client = mqtt.Client("sender", clean_session=True)
        self.client.on_connect = lambda client, *_: client.subscribe("edgekit/telemetry/status")
        self.client.on_message = self._heard
        self.client.connect(host, int(port))
        self.client.loop_start()

    def _heard(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        self.status = json.loads(message.payload)

    def send(self, numbers: range, size: int = 10) -> None:
        for number in numbers:
            payload = json.dumps({"id": f"m{number}", "filler": "x" * size})
            self.client.publish(TOPIC, payload, qos=1)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def sender(broker: str) -> Iterator[Sender]:
    sender = Sender(broker)
    yield sender
    sender.close()


@pytest.fixture
def settings(broker: str, tmp_path: Path) -> dict[str, str]:
    return {"EDGEKIT_BROKER": broker, "EDGEKIT_STATE": str(tmp_path / "state")}


def kept(settings: dict[str, str]) -> tuple[list[str], Counts]:
    store = Store(Path(settings["EDGEKIT_STATE"]) / "telemetry.db", 1 << 30)
    found = [message.id for message in store.read(0, 1_000_000)], store.counts()
    store.close()
    return found


def test_keeps_what_comes_while_there_is_no_hub(
    program: Any, settings: dict[str, str], sender: Sender, until: Any
) -> None:
    with program("edgekit_runtime", "telemetry", **settings) as agent:
        until(lambda: sender.status)
        sender.send(range(500))
        until(lambda: sender.status["stored"] == 500)
        assert sender.status == {
            "stored": 500,
            "uploaded": 0,
            "buffered": 500,
            "dropped": 0,
            "connected": False,
        }
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(20) == 0
    assert kept(settings)[0] == [f"m{n}" for n in range(500)]


def test_killed_at_random_it_loses_nothing(
    program: Any, settings: dict[str, str], sender: Sender, until: Any
) -> None:
    rounds, group = 6, 400
    for round_ in range(rounds):
        with program("edgekit_runtime", "telemetry", **settings) as agent:
            if round_ == 0:  # the broker keeps messages from the first subscription on
                until(lambda: sender.status)
            sender.send(range(round_ * group, (round_ + 1) * group))
            # anywhere: before it connects, between groups, inside a commit
            time.sleep(random.uniform(0, 1.0))
            agent.kill()
    sent = rounds * group
    with program("edgekit_runtime", "telemetry", **settings) as agent:
        until(lambda: sender.status.get("stored", 0) >= sent and no_more(sender, until))
        agent.send_signal(signal.SIGTERM)
        agent.wait(20)
    found, counts = kept(settings)
    assert set(found) == {f"m{n}" for n in range(sent)}
    assert counts.dropped == 0
    # in order but for doubles: the first of each id comes before the first of the next
    first = list(dict.fromkeys(found))
    assert first == [f"m{n}" for n in range(sent)]


def no_more(sender: Sender, until: Any) -> bool:
    """Whether the last message sent, after all others, has been stored."""
    before = sender.status["stored"]
    sender.client.publish(TOPIC, b'{"id": "m0"}', qos=1)
    until(lambda: sender.status["stored"] > before)
    return True


def test_a_full_disk_holds_the_broker_back_and_loses_nothing(
    program: Any, settings: dict[str, str], sender: Sender, until: Any
) -> None:
    limited = {"EDGEKIT_TEST_FILE_SIZE": "400000", **settings}
    with program("tests.edgekit_runtime.telemetry.small_disk", **limited) as agent:
        until(lambda: sender.status)
        sender.send(range(300), size=4000)
        assert agent.stderr is not None
        for line in agent.stderr:
            if b"stay with the broker" in line:
                break
        assert 0 < len(kept(settings)[0]) < 300
        agent.kill()
    with program("edgekit_runtime", "telemetry", **settings):
        until(lambda: sender.status["stored"] >= 300)
    assert set(kept(settings)[0]) == {f"m{n}" for n in range(300)}


def test_what_the_hub_would_never_take_does_not_block_the_rest(
    program: Any, settings: dict[str, str], sender: Sender, until: Any
) -> None:
    with program("edgekit_runtime", "telemetry", **settings):
        until(lambda: sender.status)
        sender.send(range(1), size=300_000)
        sender.client.publish(TOPIC, b"no JSON", qos=1)
        sender.send(range(1, 2))
        until(lambda: sender.status["stored"] == 2)
    assert sender.status["dropped"] == 1
    found = kept(settings)[0]
    assert (len(found[0]), found[1]) == (32, "m1")
