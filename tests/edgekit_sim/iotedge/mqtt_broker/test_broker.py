"""The broker where no mosquitto is: what it acknowledged survives kill -9, of it and of clients."""

import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_sim.iotedge.mqtt_broker.topics import is_filter, is_name, matches

SIMULATORS = str(Path(__file__).parents[4] / "simulators")

levels = st.lists(st.sampled_from(["a", "b", "", "$s"]), min_size=1, max_size=4).map("/".join)
filters = st.lists(st.sampled_from(["a", "b", "", "+", "#", "$s"]), min_size=1, max_size=4)


@given(filters.map("/".join), levels)
def test_filters_match_as_paho_says(text: str, topic: str) -> None:
    if is_filter(text) and is_name(topic):
        assert matches(text, topic) == mqtt.topic_matches_sub(text, topic)


@pytest.mark.parametrize("text", ["", "a#", "#/a", "a/#/b", "a+", "+a/b", "a\0"])
def test_refuses_what_is_no_filter(text: str) -> None:
    assert not is_filter(text)


class Running:
    """A broker as a process, and clients of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"127.{random.randint(64, 250)}.{random.randint(0, 255)}.9"
        self.process: subprocess.Popen[bytes] | None = None
        self.clients: list[mqtt.Client] = []

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "edgekit_sim.iotedge.mqtt_broker",
                self.address,
                "1883",
                self.folder,
            ],
            env={"PYTHONPATH": SIMULATORS},
        )
        self.until(self.answers)

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.address, 1883)) == 0

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(20)

    def client(self, name: str = "", clean: bool = False, **handlers: Any) -> mqtt.Client:
        """A client that is connected; `will` and paho's `on_...` may be given."""
        client = mqtt.Client(name, clean_session=clean or not name)
        if will := handlers.pop("will", None):
            client.will_set(*will)
        for handler, function in handlers.items():
            setattr(client, handler, function)
        client.connect(self.address, 1883, 60)
        client.loop_start()
        self.until(client.is_connected)
        self.clients.append(client)
        return client

    def listener(self, name: str, topic: str, clean: bool = False) -> tuple[mqtt.Client, list[Any]]:
        """A client, subscribed, and what it hears."""
        heard: list[Any] = []
        subscribed: list[int] = []
        client = self.client(
            name,
            clean,
            on_message=lambda _c, _d, m: heard.append((m.topic, m.payload.decode(), m.retain)),
            on_subscribe=lambda *_: subscribed.append(1),
        )
        client.subscribe(topic, 1)
        self.until(lambda: subscribed)
        return client, heard

    def leave(self, client: mqtt.Client) -> None:
        client.disconnect()
        client.loop_stop()
        self.clients.remove(client)

    @staticmethod
    def until(condition: Callable[[], object], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.01)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    running.start()
    yield running
    for client in list(running.clients):
        running.leave(client)
    running.end(signal.SIGKILL)


def test_keeps_messages_for_who_is_away(broker: Running) -> None:
    broker.leave(broker.listener("away", "in/+")[0])
    sender = broker.client("sender")
    for number in range(500):
        sender.publish("in/a", str(number), qos=1).wait_for_publish(20)
    sender.publish("out/a", "not for it", qos=1).wait_for_publish(20)
    _, heard = broker.listener("away", "in/+")
    broker.until(lambda: len(heard) == 500)
    assert heard == [("in/a", str(number), 0) for number in range(500)]


def test_killed_it_keeps_what_it_acknowledged(broker: Running) -> None:
    broker.leave(broker.listener("away", "in/#")[0])
    acknowledged: list[int] = []
    sender = broker.client("sender", on_publish=lambda _c, _d, mid: acknowledged.append(mid))
    numbers = {sender.publish("in/a", str(number), qos=1).mid: number for number in range(2000)}
    broker.until(lambda: len(acknowledged) > 300)
    broker.end(signal.SIGKILL)
    promised = {numbers[mid] for mid in acknowledged}
    broker.leave(sender)
    broker.start()
    _, heard = broker.listener("away", "in/#")
    last = broker.client("last")
    last.publish("in/last", "", qos=1).wait_for_publish(20)
    broker.until(lambda: heard and heard[-1][0] == "in/last")
    arrived = [int(payload) for _, payload, _ in heard[:-1]]
    assert promised <= set(arrived)
    assert arrived == sorted(arrived)


def test_what_a_killed_client_did_not_acknowledge_comes_again(broker: Running) -> None:
    script = """
import sys, os, paho.mqtt.client as mqtt
client = mqtt.Client("worker", clean_session=False)
client.on_connect = lambda c, *_: c.subscribe("in/#", 1)
client.on_subscribe = lambda *_: os.write(1, b"ready\\n")
client.on_message = lambda *_: os.kill(os.getpid(), 9)
client.connect(sys.argv[1])
client.loop_forever()
"""
    command = [sys.executable, "-c", script, broker.address]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"ready\n"
    broker.client("sender").publish("in/a", "work", qos=1).wait_for_publish(20)
    assert worker.wait(20) == -signal.SIGKILL
    worker.stdout.close()
    _, heard = broker.listener("worker", "in/#")
    broker.until(lambda: heard)
    assert heard == [("in/a", "work", 0)]


def test_retains_the_last_message_over_a_restart(broker: Running) -> None:
    sender = broker.client("sender")
    for payload in ("first", "second"):
        sender.publish("status/a", payload, qos=1, retain=True).wait_for_publish(20)
    sender.publish("status/b", "gone", qos=1, retain=True).wait_for_publish(20)
    sender.publish("status/b", "", qos=1, retain=True).wait_for_publish(20)
    assert broker.end(signal.SIGTERM) == 0
    broker.start()
    _, heard = broker.listener("late", "status/#", clean=True)
    broker.until(lambda: heard)
    assert heard == [("status/a", "second", 1)]


def test_a_clean_session_leaves_nothing(broker: Running) -> None:
    broker.leave(broker.listener("clean", "in/#", clean=True)[0])
    broker.client("sender").publish("in/a", "missed", qos=1).wait_for_publish(20)
    _, heard = broker.listener("clean", "in/#")
    broker.client("other").publish("in/a", "heard", qos=1).wait_for_publish(20)
    broker.until(lambda: heard)
    assert heard == [("in/a", "heard", 0)]


def test_a_will_is_published_for_who_says_no_goodbye(broker: Running) -> None:
    _, heard = broker.listener("heir", "wills/#")
    polite = broker.client("polite", will=("wills/polite", "no"))
    broker.leave(polite)
    rude = broker.client("rude", will=("wills/rude", "yes"))
    rude.loop_stop()
    rude.socket().shutdown(socket.SHUT_RDWR)
    broker.until(lambda: heard)
    assert heard == [("wills/rude", "yes", 0)]


def test_a_client_of_the_same_name_takes_over(broker: Running) -> None:
    gone: list[int] = []
    first = broker.client("twin", on_disconnect=lambda _c, _d, code: gone.append(code))
    first.reconnect_delay_set(60, 60)
    broker.client("twin")
    broker.until(lambda: gone)
    assert gone[0] != 0


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20,
        b"\x30\x05\x00\x01a12",  # PUBLISH before CONNECT
        b"\x10\xff\xff\xff\xff\xff",  # a length of five bytes
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x09",  # an id that ends too soon
    ],
)
def test_bytes_that_are_no_mqtt_harm_nobody(broker: Running, sent: bytes) -> None:
    with socket.create_connection((broker.address, 1883)) as raw:
        raw.sendall(sent)
        raw.settimeout(20)
        try:
            assert raw.recv(100) == b""
        except ConnectionResetError:
            assert sent
    _, heard = broker.listener("well", "in/#")
    broker.client("sender").publish("in/a", "x", qos=1).wait_for_publish(20)
    broker.until(lambda: heard)
