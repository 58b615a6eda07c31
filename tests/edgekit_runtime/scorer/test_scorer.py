"""The scorer as the process it is on a device."""

import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import paho.mqtt.client as mqtt
import pytest

REQUEST = {
    "id": "one",
    "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 0, 0, 0.5]}],
}
# row 0 of W plus half of row 3: [-5, -4, -3] + [4, 5, 6] / 2
ANSWER = {
    "model_name": "small",
    "model_version": "3",
    "id": "one",
    "outputs": [
        {"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [-3.0, -1.5, 0.0]},
        {"name": "label", "datatype": "INT64", "shape": [1], "data": [2]},
    ],
}


@pytest.fixture
def settings(model_folder: Path, loopback: str) -> dict[str, str]:
    return {
        "EDGEKIT_MODEL": str(model_folder),
        "EDGEKIT_BIND": loopback,
        "EDGEKIT_MAX_BODY": "4096",
    }


def ready(client: httpx.Client) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            return client.get("/v2/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    return ask


@pytest.fixture
def client(loopback: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{loopback}:8080") as client:
        yield client


@pytest.fixture
def scorer(
    program: Any, settings: dict[str, str], client: httpx.Client, until: Any
) -> Iterator[subprocess.Popen[bytes]]:
    with program("edgekit_runtime", "scorer", **settings) as process:
        until(ready(client))
        yield process


@pytest.mark.usefixtures("scorer")
def test_answers_as_the_protocol_says(client: httpx.Client) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2").json()["name"] == "edgekit"
    assert client.get("/v2/models/small").json() == {
        "name": "small",
        "versions": ["3"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "label", "datatype": "INT64", "shape": [-1]},
        ],
    }
    for path in ("/v2/models/small/infer", "/v2/models/small/versions/3/infer"):
        response = client.post(path, json=REQUEST)
        assert (response.status_code, response.json()) == (200, ANSWER)


def tensor(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{**REQUEST["inputs"][0], **changes}]}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"{", "JSON"),
        (b"[]", "object"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [{"name": "z"}]}, "'x' is missing"),
        ({**REQUEST, "id": 7}, "id"),
        ({**REQUEST, "outputs": [{"name": "z"}]}, "no output 'z'"),
        (tensor(datatype="FP64"), "FP32"),
        (tensor(shape=[4]), "shape"),
        (tensor(shape=[-1, 4]), "shape"),
        (tensor(shape=[2, 4]), "8 elements"),
        (tensor(data=[1, 2, 3]), "4 elements"),
        (tensor(data=["1", "2", "3", "4"]), "not FP32"),
        (tensor(data=[None, 2, 3, 4]), "not FP32"),
        (tensor(data=[[1, 2], [3]]), "not FP32"),
        (tensor(data=[1e300, 2, 3, 4]), "not FP32"),
        ({"inputs": REQUEST["inputs"] * 2}, "twice"),
    ],
)
@pytest.mark.usefixtures("scorer")
def test_refuses_what_does_not_fit(client: httpx.Client, body: Any, word: str) -> None:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = client.post("/v2/models/small/infer", content=sent)
    assert response.status_code == 400
    assert list(response.json()) == ["error"]
    assert word in response.json()["error"]
    assert "\n" not in response.json()["error"]


@pytest.mark.usefixtures("scorer")
def test_refuses_what_is_not_here(client: httpx.Client) -> None:
    assert client.get("/").status_code == 404
    assert client.get("/v2/models/other").status_code == 404
    assert client.get("/v2/models/small/versions/4").status_code == 404
    assert client.get("/v2/models/small/infer").status_code == 405
    assert client.delete("/v2/health/live").status_code == 405
    assert client.post("/v2/models/small/infer", content=b" " * 4097).status_code == 413
    chunked = client.post("/v2/models/small/infer", content=iter([b" " * 3000, b" " * 3000]))
    assert chunked.status_code == 413
    assert client.get("/v2", headers={"x": "y" * 40000}).status_code == 431
    assert client.get("/v2/health/live").status_code == 200


def test_sigterm_ends_it_gracefully(scorer: subprocess.Popen[bytes], client: httpx.Client) -> None:
    assert client.post("/v2/models/small/infer", json=REQUEST).status_code == 200
    scorer.send_signal(signal.SIGTERM)
    assert scorer.wait(10) == 0


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"EDGEKIT_MODEL": "/nowhere"}, "model.json"),
        ({"EDGEKIT_HTTP_PORT": "many"}, "EDGEKIT_HTTP_PORT"),
        ({"EDGEKIT_BIND": "192.0.2.1"}, "EDGEKIT_BIND"),
        ({"EDGEKIT_BROKER": "nothing"}, "EDGEKIT_BROKER"),
    ],
)
def test_a_mistake_is_one_line(
    program: Any, settings: dict[str, str], changes: dict[str, str], word: str
) -> None:
    with program("edgekit_runtime", "scorer", **{**settings, **changes}) as process:
        _, log = process.communicate(timeout=30)
    assert process.returncode == 1
    complaint = [line for line in log.decode().splitlines() if " ERROR " in line]
    assert len(complaint) == 1
    assert word in complaint[0]
    assert "Traceback" not in log.decode()


class Listener:
    """Collects what the scorer publishes, in a persistent session."""

    def __init__(self, broker: str, topic: str) -> None:
        self.heard: list[dict[str, Any]] = []
        self.ready = False
        self.client = mqtt.Client("listener", clean_session=False)
        self.client.on_connect = lambda client, *_: client.subscribe(topic, 1)
        self.client.on_subscribe = self._subscribed
        self.client.on_message = lambda _c, _d, message: self.heard.append(
            json.loads(message.payload)
        )
        host, port = broker.split(":")
        self.client.connect(host, int(port))
        self.client.loop_start()

    def _subscribed(self, *_: Any) -> None:
        self.ready = True

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def listener(broker: str, until: Any) -> Iterator[Listener]:
    listener = Listener(broker, "edgekit/scorer/outputs/#")
    until(lambda: listener.ready)
    yield listener
    listener.close()


@pytest.mark.needs("mosquitto")
def test_scores_what_the_broker_brings(
    listener: Listener, broker: str, settings: dict[str, str], request: Any, until: Any
) -> None:
    settings["EDGEKIT_BROKER"] = broker
    request.getfixturevalue("scorer")
    topic = "edgekit/scorer/inputs/input1"
    for payload in (json.dumps(REQUEST), "{", json.dumps({"inputs": []}), '{"id": "b"}'):
        listener.client.publish(topic, payload, qos=1)
    until(lambda: len(listener.heard) == 4)
    assert listener.heard[0] == ANSWER
    assert [sorted(output) for output in listener.heard[1:]] == [["error", "id"]] * 3
    assert [output["id"] for output in listener.heard[1:]] == [None, None, "b"]


@pytest.mark.needs("mosquitto")
def test_no_input_is_lost_when_it_is_killed(
    listener: Listener,
    broker: str,
    settings: dict[str, str],
    client: httpx.Client,
    program: Any,
    until: Any,
) -> None:
    settings["EDGEKIT_BROKER"] = broker
    sent = [f"input {number}" for number in range(2000)]
    published = False
    for round_ in range(5):
        with program("edgekit_runtime", "scorer", **settings) as process:
            until(ready(client))
            if not published:
                for name in sent:
                    payload = json.dumps({**REQUEST, "id": name})
                    listener.client.publish("edgekit/scorer/inputs/input1", payload, qos=1)
                published = True
            wanted = len(sent) if round_ == 4 else 300 * (round_ + 1)
            until(lambda wanted=wanted: len({o["id"] for o in listener.heard}) >= wanted)
            process.kill()
    assert {output["id"] for output in listener.heard} == set(sent)


@pytest.mark.usefixtures("scorer")
def test_a_refusal_reaches_a_client_that_still_sends(client: httpx.Client) -> None:
    assert client.post("/v2/models/small/infer", content=b" " * (8 << 20)).status_code == 413


@pytest.mark.usefixtures("scorer")
def test_pipelined_requests_are_answered_in_order(loopback: str) -> None:
    paths = ["/v2/health/live", "/v2/nothing", "/v2/models/small/ready"]
    with socket.create_connection((loopback, 8080)) as raw:
        raw.sendall(b"".join(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode() for path in paths))
        raw.sendall(b"GET /v2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answers = b"".join(iter(lambda: raw.recv(65536), b""))
    statuses = [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 404, 200, 200]
