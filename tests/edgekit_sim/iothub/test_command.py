"""`edgekit sim hub`: serving, and a look at a hub that runs."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli import app, sim_hub_fault
from edgekit_sim.iothub import HubHandle, faults, start_hub
from edgekit_sim.iothub.handle import python_path


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = app.run(["sim", "hub", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_serving_for_scripts_until_told_to_stop(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "edgekit", "sim", "hub", "--json", "--bind", "auto"]
    process = subprocess.Popen(
        [*program, "--state", str(tmp_path / "hub")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": python_path()},
    )
    assert process.stdout is not None
    description = json.loads(process.stdout.readline())
    published = tmp_path / "hub" / "hub.json"
    assert json.loads(published.read_text()) == description
    assert stat.S_IMODE(published.stat().st_mode) == 0o600
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert not published.exists()


def test_a_look_at_a_hub(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with start_hub(tmp_path / ".hub") as hub:
        connection = tmp_path / "d1.connection"
        arguments = ("device", "create", "d1", "--edge", "--tag", "site=a", "-o", "d1.connection")
        assert shown(capsys, *arguments)[:2] == (0, "")
        assert connection.read_text() == hub.device_connection_string("d1") + "\n"
        assert stat.S_IMODE(connection.stat().st_mode) == 0o600
        _, out, _ = shown(capsys, "device", "list", "--json")
        (found,) = json.loads(out)["devices"]
        assert (found["device"], found["edge"], found["tags"]) == ("d1", True, {"site": "a"})
        _, out, _ = shown(capsys, "twin", "d1", "--desired", '{"rate": 5}')
        assert json.loads(out)["properties"]["desired"]["rate"] == 5
        send(hub, "d1", "hello")
        _, out, _ = shown(capsys, "events", "--json")
        assert [event["body"] for event in json.loads(out)["events"]] == ["hello"]
        assert "hello" in shown(capsys, "events", "--device", "d1")[1]
        assert "hello" not in shown(capsys, "events", "--device", "d2")[1]
        stream = {"name": "r", "source": "DeviceMessages", "endpointNames": ["alerts"]}
        hub.route({"endpoints": {"eventHubs": [{"name": "alerts"}]}, "routes": [stream]})
        send(hub, "d1", "routed")
        _, out, _ = shown(capsys, "events", "--endpoint", "alerts", "--json")
        assert [event["body"] for event in json.loads(out)["events"]] == ["routed"]
        _, out, _ = shown(capsys, "routes")
        assert "DeviceMessages" in out
        assert "healthy" in out
        _, out, _ = shown(capsys, "routes", "--json")
        assert [one["name"] for one in json.loads(out)["routing"]["routes"]] == ["r"]
        code, _, err = shown(capsys, "events", "--endpoint", "nowhere")
        assert (code, "nowhere" in err, err.count("\n")) == (1, True, 1)
        code, _, err = shown(capsys, "invoke", "d1", "restart")
        assert (code, "DeviceNotOnline" in err, err.count("\n")) == (1, True, 1)


def test_faults_begin_and_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with start_hub(tmp_path / ".hub") as hub:
        arguments = ("fault", "drop", "--device", "d1", "--share", "0.5", "--seed", "7")
        assert shown(capsys, *arguments) == (0, "", "In force: drop.\n")
        shown(capsys, "fault", "delay", "--milliseconds", "20", "--seconds", "600")
        _, out, _ = shown(capsys, "fault", "--json")
        drop, delay = json.loads(out)["faults"]
        assert (drop["devices"], drop["share"], drop["seed"]) == (["d1"], 0.5, 7)
        assert delay["milliseconds"] == 20
        assert "drop" in shown(capsys, "fault")[1]
        shown(capsys, "fault", "heal", "--of", "drop")
        assert [one["fault"] for one in hub.request("GET", "/edgekit/faults")] == ["delay"]
        assert shown(capsys, "fault", "heal") == (0, "", "All is well again.\n")


def test_the_command_knows_every_kind_of_fault() -> None:
    assert {*sim_hub_fault.KINDS, sim_hub_fault.HEAL} == set(faults.KINDS)


def send(hub: HubHandle, device_id: str, body: str) -> None:
    from azure.iot.device import IoTHubDeviceClient

    client: Any = IoTHubDeviceClient.create_from_connection_string(
        hub.device_connection_string(device_id),
        server_verification_cert=Path(hub.ca_file).read_text(),
    )
    client.send_message(body)
    client.shutdown()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("events",), 1, "no hub is running"),
        (("twin", "d1", "--tags", "{"), 2, "not JSON"),
        (("device", "create", "d1", "--tag", "x"), 2, "KEY=VALUE"),
        (("--bind", "192.0.2.1"), 1, "--bind"),
        (("--routes", "nowhere.yaml"), 2, "nowhere.yaml"),
        (("fault", "fire"), 2, "partition"),
        (("fault", "heal", "--share", "0.5"), 2, "kind of fault"),
        (("fault", "drop", "--of", "drop"), 2, "heal"),
        (("fault", "drop", "--share", "2"), 2, "0<=x<=1"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    found, out, err = shown(capsys, *arguments)
    assert (found, out) == (code, "")
    assert told in err
    assert "Traceback" not in err
