"""The FPGA scorer's other doors and backends, and what it refuses to start with."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest

from edgekit_fpga.driver import Driver, Interpreter, LinkError, open_driver
from edgekit_runtime.errors import Unavailable
from edgekit_runtime.fpga_scorer.model import FpgaModel
from edgekit_runtime.fpga_scorer.packages import folder_sources
from edgekit_runtime.fpga_scorer.reloading import Reloader
from edgekit_runtime.serving.metrics import Metrics
from edgekit_runtime.serving.models import Models
from edgekit_runtime.settings import Settings
from tests.edgekit_runtime.fpga_scorer.conftest import Start, Versions
from tests.edgekit_runtime.serving.test_doors import counted


@pytest.mark.needs("mosquitto")
def test_it_scores_what_the_broker_brings_and_says_what_it_serves(
    start: Start, versions: Versions, broker: str, until: Any
) -> None:
    heard: dict[str, list[Any]] = {"outputs/output1": [], "status": []}
    client = mqtt.Client("listener")
    client.on_message = lambda _c, _d, message: heard[
        message.topic.removeprefix("edgekit/fpga-scorer/")
    ].append(json.loads(message.payload))
    subscribed: list[int] = []
    client.on_subscribe = lambda *_: subscribed.append(1)
    host, port = broker.split(":")
    client.connect(host, int(port))
    client.loop_start()
    client.subscribe([(f"edgekit/fpga-scorer/{topic}", 1) for topic in heard])
    until(lambda: subscribed)
    tensor = {
        "name": "x",
        "datatype": "FP32",
        "shape": list(versions.image.shape),
        "data": versions.image.ravel().tolist(),
    }
    try:
        with start(EDGEKIT_BROKER=broker) as served:
            for name in ("net", "other"):
                request = {"id": name, "model_name": name, "inputs": [tensor]}
                client.publish("edgekit/fpga-scorer/inputs/input1", json.dumps(request), qos=1)
            until(lambda: len(heard["outputs/output1"]) == 2)
            good, bad = heard["outputs/output1"]
            assert versions.gives("1", good["outputs"][0]["data"])
            assert (bad["id"], "no such model" in bad["error"]) == ("other", True)
            versions.install(served.folder, "2")
            until(lambda: heard["status"] and heard["status"][-1]["version"] == "2")
        assert heard["status"][0] == {
            "models": [{"model": "net", "version": "1"}],
            "model": "net",
            "version": "1",
            "ready": True,
        }
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.mark.needs("verilator")
@pytest.mark.timeout(600)
def test_in_rtl_simulation_it_counts_cycles(start: Start, versions: Versions) -> None:
    home = {name: os.environ[name] for name in ("HOME", "EDGEKIT_FPGA_CACHE") if name in os.environ}
    with start(EDGEKIT_BACKEND="rtl", **home) as served:
        body = {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "FP32",
                    "shape": list(versions.image.shape),
                    "data": versions.image.ravel().tolist(),
                }
            ]
        }
        answer = served.http.post("/v2/models/net/infer", json=body).json()
        assert versions.gives("1", answer["outputs"][0]["data"])
        text = served.http.get("/metrics").text
    assert counted(text, "edgekit_npu_cycles_total", model="net") > 2 * 1000


class Broken:
    """A backend whose link is gone."""

    name = "board"

    def run(self, *_: object) -> Any:
        raise LinkError("/dev/ttyUSB0 is silent")

    def close(self) -> None:
        pass


def test_a_broken_link_is_said_to_be_for_now(versions: Versions) -> None:
    whole = FpgaModel.load("net", "1", versions.packages["1"], open_driver(), lambda *_: None)
    model = replace(whole, driver=Driver(Broken()))
    with pytest.raises(Unavailable, match="is silent"):
        model.run({"x": versions.image}, ["y"])


class Flaky(Interpreter):
    """An interpreter whose link breaks now and then."""

    broken = False

    def run(self, *arguments: Any) -> Any:
        if self.broken:
            raise LinkError("/dev/ttyUSB0 is silent")
        return super().run(*arguments)


def test_a_package_that_could_not_be_tried_is_tried_again(
    versions: Versions, tmp_path: Path
) -> None:
    versions.install(tmp_path / "net", "1")
    backend, models, metrics = Flaky(), Models(), Metrics()
    reloader = Reloader(folder_sources(tmp_path), Driver(backend), models, metrics)
    reloader.load_all()
    versions.install(tmp_path / "net", "2")
    backend.broken = True
    assert not reloader.look()
    assert models.find("net").version == "1"
    backend.broken = False
    assert reloader.look()
    assert models.find("net").version == "2"
    assert not reloader.look()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"EDGEKIT_MODEL": "/nowhere"}, "has no FPGA package"),
        ({"EDGEKIT_BACKEND": "gpu"}, "no backend is called 'gpu'"),
        ({"EDGEKIT_MODEL": "{tmp}/damaged"}, "truncated or damaged"),
        ({"EDGEKIT_MODEL": "{tmp}/swapped"}, "is about another package"),
        ({"EDGEKIT_MODEL": "{tmp}/twice"}, "and so is another package"),
    ],
)
def test_a_mistake_is_one_line(
    program: Any,
    versions: Versions,
    loopback: str,
    tmp_path: Path,
    settings: dict[str, str],
    said: str,
) -> None:
    versions.install(tmp_path / "model", "1")
    versions.install(tmp_path / "damaged", "1")
    (tmp_path / "damaged/model.npu").write_bytes(b"PK")
    versions.install(tmp_path / "swapped", "1")
    versions.packages["2"].save(tmp_path / "swapped/model.npu")
    (tmp_path / "twice").mkdir()
    versions.install(tmp_path / "twice/a", "1")
    versions.install(tmp_path / "twice/b", "2")
    environment = {"EDGEKIT_MODEL": str(tmp_path / "model"), "EDGEKIT_BIND": loopback}
    environment |= {name: value.format(tmp=tmp_path) for name, value in settings.items()}
    with program("edgekit_runtime", "fpga-scorer", **environment) as process:
        _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    complaint = [line for line in log.decode().splitlines() if " ERROR " in line]
    assert len(complaint) == 1
    assert said in complaint[0]
    assert "Traceback" not in log.decode()


def test_settings_never_show_a_token() -> None:
    settings = Settings.read({"EDGEKIT_TOKEN": "letmein"}, "fpga-scorer")
    assert settings.tokens == ("letmein",)
    assert "letmein" not in repr(settings)
