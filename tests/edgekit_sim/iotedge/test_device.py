"""One device at the hub, with real modules: pulled, started, fed, cut off, killed."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest

from edgekit_sim.iotedge import DeviceError, EdgeDevice
from edgekit_sim.lifeline import Lifeline, processes_of

Eventually = Callable[..., Any]

BROKERS = [pytest.param("mosquitto", marks=pytest.mark.needs("mosquitto")), "edgekit"]


def feed(device: EdgeDevice, numbers: range) -> None:
    """Send inputs; each is with the broker when this returns."""
    host, port = device.broker.split(":")
    client = mqtt.Client("camera", clean_session=True)
    client.connect(host, int(port))
    client.loop_start()
    for number in numbers:
        tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [number]}
        request = json.dumps({"id": f"m{number}", "inputs": [tensor]})
        client.publish("edgekit/scorer/inputs/input1", request, qos=1).wait_for_publish(20)
    client.disconnect()
    client.loop_stop()


def by_id(events: list[dict[str, Any]]) -> dict[str, float]:
    """Message id -> the number the model made of it."""
    return {
        event["systemProperties"]["message-id"]: event["body"]["outputs"][0]["data"][0]
        for event in events
    }


def process_of(device: EdgeDevice, run: str, word: str) -> int:
    """The process of the device's run that has `word` as its last argument."""
    for process in processes_of(run):
        arguments = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        if arguments[-2:-1] == [word.encode()]:
            return process
    raise AssertionError(f"no {word} on {device.config.state}")


@pytest.mark.parametrize("broker", BROKERS)
def test_every_message_arrives_over_a_cut_and_a_killed_module(
    site: Any, eventually: Eventually, broker: str
) -> None:
    site.deploy({"scorer": site.module("scorer"), "telemetry": site.module("telemetry")})
    with Lifeline("test") as line, EdgeDevice(site.changed(broker=broker)) as device:
        device.wait_ready()
        feed(device, range(50))
        site.hub.partition([site.device_id])
        feed(device, range(50, 100))
        os.kill(process_of(device, line.run, "scorer"), signal.SIGKILL)
        os.kill(process_of(device, line.run, "telemetry"), signal.SIGKILL)
        feed(device, range(100, 150))
        site.hub.heal()
        eventually(lambda: len(by_id(site.received())) >= 150)
        assert by_id(site.received()) == {f"m{n}": 2.0 * n for n in range(150)}
        reported = eventually(
            lambda: (
                (r := site.reported())["modules"]["scorer"].get("restartCount") == 1
                and r["modules"]["scorer"]["runtimeStatus"] == "running"
                and r
            )
        )
        assert reported["lastDesiredStatus"] == {"code": 200, "description": ""}
        assert reported["modules"]["scorer"]["exitCode"] == 128 + signal.SIGKILL
        assert reported["systemModules"]["edgeHub"]["runtimeStatus"] == "running"
        assert site.reported("$edgeHub")["lastDesiredStatus"]["code"] == 200


def test_a_change_replaces_only_what_it_changes(site: Any, eventually: Eventually) -> None:
    both = {"scorer": site.module("scorer"), "telemetry": site.module("telemetry")}
    site.deploy(both)
    with EdgeDevice(site.config) as device:
        device.wait_ready()
        before = eventually(lambda: site.reported().get("modules"))
        both["scorer"]["env"]["EDGEKIT_QUEUE"] = {"value": "7"}
        both["telemetry"]["restartPolicy"] = "on-failure"
        site.deploy(both)
        after = eventually(
            lambda: (
                (m := site.reported()["modules"])["telemetry"]["restartPolicy"] == "on-failure"
                and m["scorer"]["lastStartTimeUtc"] != before["scorer"]["lastStartTimeUtc"]
                and m
            )
        )
        assert after["scorer"]["env"]["EDGEKIT_QUEUE"] == {"value": "7"}
        assert after["telemetry"]["lastStartTimeUtc"] == before["telemetry"]["lastStartTimeUtc"]
        del both["scorer"]
        site.deploy(both)
        eventually(lambda: list(site.reported()["modules"]) == ["telemetry"])


def test_what_cannot_be_deployed_is_reported_and_changes_nothing(
    site: Any, eventually: Eventually
) -> None:
    agent = {"telemetry": site.module("telemetry")}
    site.deploy(agent)
    with EdgeDevice(site.config) as device:
        device.wait_ready(modules=["telemetry"])
        site.deploy({}, schema="9.9")
        eventually(lambda: site.reported().get("lastDesiredStatus", {}).get("code") == 412)
        assert site.reported()["modules"]["telemetry"]["runtimeStatus"] == "running"

        missing = site.module("scorer")
        missing["settings"]["image"] = site.image.replace("python@", "nothing@")
        site.deploy({**agent, "scorer": missing})
        eventually(lambda: site.reported()["lastDesiredStatus"]["code"] == 500)
        assert "nothing@" in site.reported()["lastDesiredStatus"]["description"]
        assert site.reported()["modules"]["telemetry"]["runtimeStatus"] == "running"
        with pytest.raises(DeviceError, match="cannot be pulled"):
            device.wait_ready(1)

        # the next deployment heals it
        site.deploy({**agent, "scorer": site.module("scorer")})
        device.wait_ready()


def test_a_module_that_ends_at_once_backs_off(site: Any, eventually: Eventually) -> None:
    broken = site.module("scorer")
    broken["env"]["EDGEKIT_MODEL"] = {"value": "/nowhere"}
    never = site.module("nothing", restartPolicy="never")
    site.deploy({"broken": broken, "never": never})
    with EdgeDevice(site.changed(backoff=0.1)):
        eventually(lambda: site.reported().get("modules", {}).get("broken"))
        eventually(lambda: site.reported()["modules"]["broken"]["restartCount"] >= 3)
        modules = site.reported()["modules"]
        assert modules["broken"]["exitCode"] == 1
        assert (modules["never"]["runtimeStatus"], modules["never"]["exitCode"]) == ("failed", 2)
        assert modules["never"]["restartCount"] == 0


def test_killed_it_leaves_nothing_and_comes_back_without_a_hub(
    site: Any, eventually: Eventually
) -> None:
    site.deploy({"scorer": site.module("scorer"), "telemetry": site.module("telemetry")})
    with Lifeline("test") as line:
        device = EdgeDevice(site.config)
        device.start()
        device.wait_ready()
        feed(device, range(20))
        eventually(lambda: len(by_id(site.received())) == 20)
        device.kill()
        eventually(lambda: not list(processes_of(line.run)))

        site.hub.partition([site.device_id])
        with device:
            device.wait_ready()
            feed(device, range(20, 40))
            site.hub.heal()
            eventually(lambda: len(by_id(site.received())) == 40)


def test_two_devices_cannot_share_a_disk(site: Any) -> None:
    with EdgeDevice(site.config), pytest.raises(DeviceError, match="another device"):
        EdgeDevice(replace(site.config, address="127.9.9.9")).start()


def test_a_key_lies_only_where_it_must(site: Any, eventually: Eventually) -> None:
    site.deploy({"telemetry": site.module("telemetry")})
    with Lifeline("test") as line, EdgeDevice(site.config) as device:
        device.wait_ready(modules=["telemetry"])
        eventually(lambda: site.reported().get("modules"))
        identities = json.loads((site.config.state / "identities.json").read_text())
        keys = [site.config.connection().key, *(identity["key"] for identity in identities)]
        shown = [
            Path(f"/proc/{process}/{what}").read_bytes()
            for process in processes_of(line.run)
            for what in ("cmdline", "environ")
        ]
        assert len(shown) >= 4
    files = [path for path in site.config.state.rglob("*") if path.is_file()]
    shown += [path.read_bytes() for path in files if path.name != "identities.json"]
    assert not [key for key in keys for text in shown if key.encode() in text]
    assert (site.config.state / "identities.json").stat().st_mode & 0o077 == 0


@pytest.mark.needs("mosquitto")
def test_a_broker_that_dies_comes_back(site: Any, eventually: Eventually) -> None:
    site.deploy({"scorer": site.module("scorer"), "telemetry": site.module("telemetry")})
    with Lifeline("test") as line, EdgeDevice(site.changed(broker="mosquitto")) as device:
        device.wait_ready()
        config = str(site.config.state / "broker" / "mosquitto.conf")
        first = process_of(device, line.run, config)
        os.kill(first, signal.SIGTERM)

        def replaced() -> bool:
            try:
                return process_of(device, line.run, config) != first
            except (AssertionError, OSError):
                return False

        eventually(replaced)
        device.wait_ready()

        def arrives() -> bool:
            try:
                feed(device, range(10))
            except OSError:
                return False
            return True

        eventually(arrives)
        eventually(lambda: len(by_id(site.received())) == 10)
