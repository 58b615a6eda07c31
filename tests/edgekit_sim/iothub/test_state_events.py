"""Events of the hub's own, made by unmodified SDKs and read by the unmodified azure-eventhub."""

import functools
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from azure.iot.hub.models import Twin, TwinProperties

from edgekit_sim.iothub.handle import HubHandle
from tests.edgekit_sim.iothub.test_eventhubs import consumer, receive

SOURCES = ("TwinChangeEvents", "DeviceLifecycleEvents", "DeviceConnectionStateEvents")
ROUTES = [{"name": s, "source": s, "endpointNames": ["events"]} for s in SOURCES]
FALLBACK = {"isEnabled": True, "endpointNames": ["events"]}


@pytest.fixture(autouse=True)
def _routed(iothub: HubHandle) -> Iterator[None]:
    iothub.route({"routes": ROUTES, "fallbackRoute": FALLBACK})
    yield
    iothub.request("DELETE", "/edgekit/routing")


def of(event: Any) -> tuple[str, str, str]:
    """Whom an event is about, its source and its operation."""
    system, own = event.system_properties, event.properties
    module = system.get(b"iothub-connection-module-id", b"")
    name = b"/".join(filter(None, (system[b"iothub-connection-device-id"], module)))
    source = system[b"iothub-message-source"]
    return name.decode(), source.decode(), own.get(b"opType", b"").decode()


def read(iothub: HubHandle, device_id: str, count: int) -> list[Any]:
    """A device's events, in order; fails when there are fewer."""

    def mine(events: list[Any]) -> list[Any]:
        return [event for event in events if of(event)[0].split("/")[0] == device_id]

    found = mine(receive(consumer(iothub), lambda events: len(mine(events)) >= count))
    assert len(found) == count
    return found


def test_a_device_and_its_module_come_and_go(iothub: HubHandle, registry: Any) -> None:
    registry.create_device_with_sas("life", None, None, "enabled")
    registry.create_module_with_sas("life", "m", "me", None, None)
    registry.delete_device("life")
    events = read(iothub, "life", 4)
    source = "deviceLifecycleEvents"
    assert [of(event) for event in events] == [
        ("life", source, "createDeviceIdentity"),
        ("life/m", source, "createDeviceIdentity"),
        ("life/m", source, "deleteDeviceIdentity"),
        ("life", source, "deleteDeviceIdentity"),
    ]
    own = {key.decode(): value.decode() for key, value in events[1].properties.items()}
    assert abs(datetime.fromisoformat(own.pop("operationTimestamp")).timestamp() - time.time()) < 60
    assert own == {
        "hubName": "edgekit-hub",
        "deviceId": "life",
        "moduleId": "m",
        "opType": "createDeviceIdentity",
        "iothub-message-schema": "deviceLifecycleNotification",
    }
    body = events[1].body_as_json()
    assert (body["deviceId"], body["moduleId"], body["version"]) == ("life", "m", 1)
    assert body["properties"]["desired"]["$version"] == 1
    assert events[1].content_type == "application/json"
    assert events[1].correlation_id


def test_all_kinds_of_twin_changes(iothub: HubHandle, registry: Any, connect: Any) -> None:
    client = connect("change")
    registry.update_twin(
        "change", Twin(tags={"site": "a"}, properties=TwinProperties(desired={"rate": {"x": 1}}))
    )
    registry.update_twin("change", Twin(properties=TwinProperties(desired={"rate": None, "on": 1})))
    client.patch_twin_reported_properties({"state": "warm"})
    registry.replace_twin("change", Twin(properties=TwinProperties(desired={"on": 2})), "*")
    events = read(iothub, "change", 6)[2:]
    assert [of(e)[1:] for e in events[:3]] == [("twinChangeEvents", "updateTwin")] * 3
    assert of(events[3])[1:] == ("twinChangeEvents", "replaceTwin")
    assert events[0].properties[b"iothub-message-schema"] == b"twinChangeNotification"
    first, second, reported, whole = (event.body_as_json() for event in events)
    desired = first["properties"]["desired"]
    mark = {"$lastUpdated": desired["$metadata"]["$lastUpdated"], "$lastUpdatedVersion": 2}
    assert first == {
        "version": 2,
        "tags": {"site": "a"},
        "properties": {
            "desired": {
                "rate": {"x": 1},
                "$metadata": {**mark, "rate": {**mark, "x": mark}},
                "$version": 2,
            }
        },
    }
    desired = second["properties"]["desired"]
    assert (desired["rate"], desired["on"], desired["$version"]) == (None, 1, 3)
    assert desired["$metadata"].keys() == {"$lastUpdated", "$lastUpdatedVersion", "on"}
    assert "tags" not in second
    assert reported["properties"].keys() == {"reported"}
    assert reported["properties"]["reported"]["state"] == "warm"
    assert reported["properties"]["reported"]["$version"] == 2
    assert (whole["deviceId"], whole["version"]) == ("change", 5)
    assert whole["properties"]["desired"]["on"] == 2
    assert whole["properties"]["reported"]["state"] == "warm"


def test_a_module_connects_and_goes(iothub: HubHandle, connect: Any) -> None:
    connect("line", "m").disconnect()
    events = [e for e in read(iothub, "line", 4) if of(e)[1] == "deviceConnectionStateEvents"]
    assert [of(event)[::2] for event in events] == [
        ("line/m", "deviceConnected"),
        ("line/m", "deviceDisconnected"),
    ]
    numbers = [event.body_as_json()["sequenceNumber"] for event in events]
    assert numbers == sorted(numbers)
    assert {len(number) for number in numbers} == {64}
    assert b"iothub-connection-auth-method" not in events[0].system_properties


def test_sequence_numbers_grow_over_a_restart(iothub: HubHandle, connect: Any) -> None:
    for number, end in enumerate((iothub.stop, iothub.kill), 1):
        connect("again").disconnect()
        wait_for(functools.partial(states, iothub, "again", 2 * number))
        end()
        iothub.start()
    numbers = states(iothub, "again", 4)
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 4


def states(iothub: HubHandle, device_id: str, least: int) -> list[str]:
    found = [
        event["body"]["sequenceNumber"]
        for event in iothub.events()
        if event["deviceId"] == device_id
        and event["systemProperties"]["iothub-message-source"] == "deviceConnectionStateEvents"
    ]
    return found if len(found) >= least else []


def wait_for(look: Callable[[], list[str]]) -> None:
    end = time.monotonic() + 20
    while not look() and time.monotonic() < end:
        time.sleep(0.05)


def test_without_a_route_there_are_none(iothub: HubHandle, registry: Any) -> None:
    iothub.request("DELETE", "/edgekit/routing")
    registry.create_device_with_sas("quiet", None, None, "enabled")
    assert not [event for event in iothub.events() if event["deviceId"] == "quiet"]


def test_a_configuration_changes_twins(
    iothub: HubHandle, registry: Any, configurations: Any
) -> None:
    from azure.iot.hub.models import Configuration, ConfigurationContent

    registry.create_device_with_sas("configured", None, None, "enabled")
    content = ConfigurationContent(device_content={"properties.desired.rate": 7})
    configurations.create_configuration(
        Configuration(id="c", content=content, target_condition="deviceId='configured'", priority=1)
    )
    configurations.delete_configuration("c")
    events = read(iothub, "configured", 3)[1:]
    changes = [event.body_as_json()["properties"]["desired"]["rate"] for event in events]
    assert changes == [7, None]
