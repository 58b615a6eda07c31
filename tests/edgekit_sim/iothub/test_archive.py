"""Routes to blobs: written by the hub, read by azure-storage-blob, with Azurite between them."""

import base64
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
from azure.iot.device import IoTHubDeviceClient, Message

from edgekit_sim.iothub import HubHandle, SimulatorError, start_hub
from edgekit_sim.iothub.uploads import ENVIRONMENT
from tests.azurite import Azurite

pytestmark = pytest.mark.needs("azurite")
SECONDS = 30.0
NAME = r"edgekit-hub/\d/\d{4}/\d\d/\d\d/\d\d/\d\d(_\d+)?"


@pytest.fixture
def hub(azurite: Azurite, tmp_path: Path, monkeypatch: Any) -> Iterator[HubHandle]:
    monkeypatch.setenv(ENVIRONMENT, azurite.connection_string)
    with start_hub(tmp_path / "hub") as hub:
        monkeypatch.setenv("SSL_CERT_FILE", hub.ca_file)
        yield hub


def archive(container: Any, **more: Any) -> dict[str, Any]:
    """A routing section that has a storage endpoint for all messages."""
    endpoint = {
        "name": "archive",
        "containerName": container.container_name,
        "batchFrequencyInSeconds": 1,
        "encoding": "json",
        **more,
    }
    route = {"name": "r", "source": "DeviceMessages", "endpointNames": ["archive"]}
    stamp = {"key": "hub", "value": "$iothubname", "endpointNames": ["archive"]}
    section = {"endpoints": {"storageContainers": [endpoint]}, "routes": [route]}
    return {**section, "enrichments": [stamp]}


def send(hub: HubHandle, device_id: str, *messages: Message | str) -> None:
    hub.create_device(device_id)
    text = hub.device_connection_string(device_id)
    client: Any = IoTHubDeviceClient.create_from_connection_string(text)
    for message in messages:
        client.send_message(message)
    client.shutdown()


def blobs(container: Any) -> dict[str, bytes]:
    names = [blob.name for blob in container.list_blobs()]
    return {name: container.download_blob(name).readall() for name in names}


def until(look: Callable[[], Any]) -> Any:
    end = time.monotonic() + SECONDS
    while not (found := look()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def health(hub: HubHandle) -> dict[str, Any]:
    endpoints = hub.request("GET", "/edgekit/routing/health")["value"]
    (found,) = (one for one in endpoints if one["endpointId"] == "archive")
    assert isinstance(found, dict)
    return found


def records(container: Any) -> list[dict[str, Any]]:
    """Records of all blobs, in the order of their names."""
    return [json.loads(line) for one in blobs(container).values() for line in one.splitlines()]


def test_json(hub: HubHandle, container: Any) -> None:
    hub.route(archive(container))
    message = Message('{"a": 1}', message_id="m-1")
    message.content_type, message.content_encoding = "application/json", "utf-8"
    message.custom_properties["line"] = "7"
    false = Message("not json")
    false.content_type = "application/json"
    send(hub, "d1", message, "text", false)
    found = until(lambda: blobs(container))
    (name,) = found
    assert re.fullmatch(NAME, name)
    first, second, third = records(container)
    assert (first["Body"], first["Properties"]) == ({"a": 1}, {"line": "7", "hub": "edgekit-hub"})
    system = first["SystemProperties"]
    assert (system["connectionDeviceId"], system["messageId"]) == ("d1", "m-1")
    assert system["contentType"] == "application/json"
    assert json.loads(system["connectionAuthMethod"])["type"] == "sas"
    assert first["EnqueuedTimeUtc"] == system["enqueuedTime"]
    bodies = [base64.b64decode(one["Body"]) for one in (second, third)]
    assert bodies == [b"text", b"not json"]
    assert until(lambda: health(hub)["waitingMessages"] == 0)


def test_avro(hub: HubHandle, container: Any) -> None:
    name = "a/{YYYY}{MM}{DD}{HH}{mm}/{iothub}-{partition}.avro"
    hub.route(archive(container, encoding="Avro", fileNameFormat=name))
    send(hub, "d1", "one", "two")
    ((name, content),) = until(lambda: blobs(container)).items()
    assert re.fullmatch(r"a/\d{12}/edgekit-hub-\d\.avro", name)
    found: list[Any] = list(fastavro.reader(io.BytesIO(content)))
    assert [record["Body"] for record in found] == [b"one", b"two"]
    assert found[0].keys() == {"EnqueuedTimeUtc", "Properties", "SystemProperties", "Body"}
    assert found[0]["Properties"] == {"hub": "edgekit-hub"}
    assert found[0]["SystemProperties"]["connectionDeviceId"] == "d1"


def test_partitions_and_batches_have_blobs_of_their_own(hub: HubHandle, container: Any) -> None:
    hub.route(archive(container))
    for device_id in ("d1", "d2"):
        send(hub, device_id, "a")
        assert until(lambda: health(hub)["waitingMessages"] == 0)
        send(hub, device_id, "b")
        assert until(lambda: health(hub)["waitingMessages"] == 0)
    found = blobs(container)
    assert len(found) == 4
    assert len({name.split("/")[1] for name in found}) == 2
    assert all(re.fullmatch(NAME, name) for name in found)


def test_a_blob_service_that_is_away_loses_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    with Azurite(tmp_path / "azurite") as azurite, azurite.client() as service:
        monkeypatch.setenv(ENVIRONMENT, azurite.connection_string)
        container = service.create_container("archive")
        with start_hub(tmp_path / "hub") as hub:
            monkeypatch.setenv("SSL_CERT_FILE", hub.ca_file)
            hub.route(archive(container))
            azurite.stop()
            send(hub, "d1", *map(str, range(20)))
            state = until(lambda: found if "lastKnownError" in (found := health(hub)) else None)
            assert (state["healthStatus"], state["waitingMessages"]) == ("unhealthy", 20)
            assert "cannot be reached" in state["lastKnownError"]
            assert "sig=" not in state["lastKnownError"]
            hub.kill()
            hub.start()
            with pytest.raises(SimulatorError, match="20 message"):
                hub.request("DELETE", "/edgekit/routing")
            azurite.start()
            assert until(lambda: health(hub)["waitingMessages"] == 0)
            assert health(hub)["healthStatus"] == "healthy"
            bodies = [base64.b64decode(record["Body"]) for record in records(container)]
            assert bodies == [str(number).encode() for number in range(20)]
            hub.request("DELETE", "/edgekit/routing")


def test_kill_minus_nine_again_and_again_loses_and_doubles_nothing(
    hub: HubHandle, container: Any
) -> None:
    hub.route(archive(container))
    hub.create_device("d1")
    for number in range(5):
        send(hub, "d1", *(f"{number}-{n}" for n in range(10)))
        time.sleep(0.25 * number)  # at another moment between acknowledging and writing each time
        hub.kill()
        hub.start()
    assert until(lambda: health(hub)["waitingMessages"] == 0)
    bodies = [base64.b64decode(record["Body"]).decode() for record in records(container)]
    assert sorted(bodies) == sorted(f"{number}-{n}" for number in range(5) for n in range(10))


def test_a_container_that_is_not_there(hub: HubHandle, container: Any) -> None:
    section = archive(container)
    section["endpoints"]["storageContainers"][0]["containerName"] = "nowhere"
    hub.route(section)
    send(hub, "d1", "x")
    state = until(lambda: found if "lastKnownError" in (found := health(hub)) else None)
    assert re.search("404.*nowhere", state["lastKnownError"])
    hub.route(archive(container))
    assert until(lambda: [base64.b64decode(r["Body"]) for r in records(container)]) == [b"x"]
