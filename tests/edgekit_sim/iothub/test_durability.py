"""What was acknowledged is there after kill -9, and after cuts of the network."""

import threading
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient, Message

from edgekit_sim.iothub import HubHandle, SimulatorError, start_hub


def client_of(hub: HubHandle, device_id: str) -> Any:
    hub.create_device(device_id)
    authority = Path(hub.ca_file).read_text()
    return IoTHubDeviceClient.create_from_connection_string(
        hub.device_connection_string(device_id),
        server_verification_cert=authority,
        connection_retry_interval=1,
    )


def test_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    with start_hub(tmp_path / "hub") as hub:
        client = client_of(hub, "d1")
        acknowledged = []
        for number in range(30):
            client.send_message(Message("x", message_id=str(number)))
            acknowledged.append(str(number))
        client.patch_twin_reported_properties({"n": 1})
        client.patch_twin_reported_properties({"n": 2})
        hub.request("PATCH", "/twins/d1", {"tags": {"a": 1}, "properties": {"desired": {"b": 2}}})
        before = hub.request("GET", "/twins/d1")
        hub.kill()
        hub.start()
        after = hub.request("GET", "/twins/d1")
        ids = [event["systemProperties"]["message-id"] for event in hub.events()]
        for name in ("tags", "properties", "etag", "version"):
            assert after[name] == before[name]
        assert ids == acknowledged
        client.send_message(Message("x", message_id="after"))  # the same keys, the same address
        assert hub.events()[-1]["systemProperties"]["message-id"] == "after"
        client.shutdown()


def test_a_partition_and_its_end(tmp_path: Path) -> None:
    with start_hub(tmp_path / "hub") as hub:
        client = client_of(hub, "d1")
        other = client_of(hub, "d2")
        other.connect()
        client.connect()
        gone, back = threading.Event(), threading.Event()

        def note() -> None:
            (back if client.connected else gone).set()

        client.on_connection_state_change = note
        hub.partition(["d1"])
        assert gone.wait(10)
        other.send_message("not cut off")
        assert not client.connected
        back.clear()
        hub.heal()
        assert back.wait(20)
        client.send_message("back")
        assert [event["body"] for event in hub.events()] == ["not cut off", "back"]
        client.shutdown()
        other.shutdown()


def test_a_lost_acknowledgement_makes_a_double(tmp_path: Path) -> None:
    with start_hub(tmp_path / "hub") as hub:
        client = client_of(hub, "d1")
        client.connect()
        gone = threading.Event()
        client.on_connection_state_change = lambda: client.connected or gone.set()
        hub.lose_acks(1.0, seed=1)
        sender = threading.Thread(target=client.send_message, args=(Message("x", "m-1"),))
        sender.start()
        assert gone.wait(10)
        hub.heal()
        sender.join(30)
        assert not sender.is_alive()
        ids = [event["systemProperties"]["message-id"] for event in hub.events()]
        assert ids[:2] == ["m-1", "m-1"]
        client.shutdown()


def test_one_folder_has_one_hub(tmp_path: Path) -> None:
    with start_hub(tmp_path / "hub"), pytest.raises(SimulatorError, match="another hub is using"):
        HubHandle(tmp_path / "hub")


def test_the_hub_ends_with_its_parent(tmp_path: Path) -> None:
    with start_hub(tmp_path / "hub") as hub:
        process = hub._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0
