"""Message routing: conditions, endpoints read by the unmodified azure-eventhub, enrichments."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.eventhub import EventHubConsumerClient
from azure.eventhub.exceptions import EventHubError
from azure.iot.device import Message
from azure.iot.hub.models import Twin, TwinProperties
from hypothesis import given
from hypothesis import strategies as st

from edgekit_sim.iothub import HubHandle, SimulatorError, start_hub
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.routing.configuration import Routing, read_routing
from tests.edgekit_sim.iothub.test_eventhubs import consumer, receive

ALERTS = {"eventHubs": [{"name": "alerts"}]}
FALLBACK = {"isEnabled": True, "endpointNames": ["events"]}


@pytest.fixture(autouse=True)
def _as_new(iothub: HubHandle) -> Iterator[None]:
    yield
    iothub.request("DELETE", "/edgekit/routing")


def route(condition: str = "true", **more: Any) -> dict[str, Any]:
    made = {"name": "r", "source": "DeviceMessages", "condition": condition, **more}
    return {"endpointNames": ["alerts"], **made}


def routing(*routes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"endpoints": ALERTS, "routes": list(routes), "fallbackRoute": FALLBACK, **more}


def message(body: Any, **properties: str) -> Message:
    made = Message(json.dumps(body))
    made.content_type, made.content_encoding = "application/json", "utf-8"
    made.custom_properties.update(properties)
    return made


def bodies(hub: HubHandle, device_id: str, endpoint: str = "") -> list[Any]:
    return [e["body"] for e in hub.events(endpoint=endpoint) if e["deviceId"] == device_id]


def test_a_new_hub_has_the_fallback_route_alone(iothub: HubHandle) -> None:
    found = iothub.routing()
    assert found["routes"] == found["enrichments"] == found["endpoints"]["eventHubs"] == []
    assert found["fallbackRoute"]["isEnabled"]


def test_messages_go_by_their_properties_or_fall_back(iothub: HubHandle, connect: Any) -> None:
    iothub.route(routing(route("level = 'alert'")))
    client = connect("by-property")
    client.send_message(message(1, level="alert"))
    client.send_message(message(2, level="info"))
    client.send_message(message(3))
    assert bodies(iothub, "by-property", "alerts") == [1]
    assert bodies(iothub, "by-property") == [2, 3]


def test_without_a_fallback_route_messages_are_lost(iothub: HubHandle, connect: Any) -> None:
    iothub.route({"endpoints": ALERTS, "routes": [route("level = 'alert'")]})
    connect("lost").send_message("taken, acknowledged and gone")
    assert bodies(iothub, "lost") == bodies(iothub, "lost", "alerts") == []


def test_a_message_to_two_endpoints_comes_to_each_once(iothub: HubHandle, connect: Any) -> None:
    both = route(endpointNames=["alerts", "events"])
    iothub.route(routing(both, route(name="again"), route(name="off", isEnabled=False)))
    connect("both").send_message("x")
    assert bodies(iothub, "both") == bodies(iothub, "both", "alerts") == ["x"]


def test_a_stream_is_read_by_azure_eventhub(iothub: HubHandle, connect: Any) -> None:
    alarm = {"eventHubs": [{"name": "alerts", "entityPath": "Alarm"}]}
    iothub.route(routing(route(), endpoints=alarm))
    client = connect("stream")
    for number in range(3):
        client.send_message(message(number, line="7"))
    reader = EventHubConsumerClient.from_connection_string(
        iothub.eventhub_connection_string_of("alarm"), "$Default", connection_verify=iothub.ca_file
    )
    events = receive(reader, lambda events: len(events) >= 3)
    assert [event.body_as_json() for event in events] == [0, 1, 2]
    assert [event.sequence_number for event in events] == [1, 2, 3]
    assert events[0].properties == {b"line": b"7"}
    system = events[0].system_properties
    assert system[b"iothub-connection-device-id"] == b"stream"
    assert system[b"iothub-message-source"] == b"Telemetry"
    with EventHubConsumerClient.from_connection_string(
        iothub.eventhub_connection_string_of("alarm"), "$Default", connection_verify=iothub.ca_file
    ) as reader:
        partitions = [reader.get_partition_properties(p) for p in reader.get_partition_ids()]
        assert reader.get_eventhub_properties()["eventhub_name"] == "alarm"
    assert sum(p["last_enqueued_sequence_number"] for p in partitions) == 3


def test_a_stream_that_is_removed_is_gone_with_its_events(iothub: HubHandle, connect: Any) -> None:
    iothub.route(routing(route()))
    connect("gone").send_message("x")
    assert bodies(iothub, "gone", "alerts") == ["x"]
    iothub.request("DELETE", "/edgekit/routing")
    with pytest.raises(SimulatorError, match="alerts"):
        iothub.events(endpoint="alerts")
    reader = EventHubConsumerClient.from_connection_string(
        iothub.eventhub_connection_string_of("alerts"),
        "$Default",
        connection_verify=iothub.ca_file,
        retry_total=0,
    )
    with reader, pytest.raises(EventHubError):
        reader.get_partition_ids()
    iothub.route(routing(route()))
    assert bodies(iothub, "gone", "alerts") == []


def test_a_route_by_the_twin_of_the_sender(iothub: HubHandle, registry: Any, connect: Any) -> None:
    iothub.route(routing(route("$twin.tags.site = 'a' AND $twin.properties.desired.rate > 2")))
    client = connect("by-twin")
    client.send_message("before")
    twin = Twin(tags={"site": "a"}, properties=TwinProperties(desired={"rate": 3}))
    registry.update_twin("by-twin", twin)
    client.send_message("after")
    assert bodies(iothub, "by-twin", "alerts") == ["after"]
    assert bodies(iothub, "by-twin") == ["before"]


@pytest.mark.parametrize(
    ("condition", "result"),
    [
        ("true", "true"),
        ("level = 'alert'", "true"),
        ("LEVEL = 'alert'", "true"),
        ("level = 'info'", "false"),
        ("nothing = 'x'", "undefined"),
        ("NOT (nothing = 'x')", "undefined"),
        ("iothub-thing = 'h'", "true"),
        ("$contentType = 'application/json'", "true"),
        ("$contentEncoding = 'UTF-8'", "true"),
        ("$connectionDeviceId = 'd1'", "true"),
        ("$dt-subject = 'thermostat1'", "true"),
        ("$special = 's'", "true"),  # no system property: so one of the application
        ("$body.Weather.HistoricalData[0].Month = 'Feb'", "true"),
        ("$body.Weather.Temperature = 50 AND $body.Weather.IsEnabled", "true"),
        ("$body.weather.temperature >= 50", "true"),
        ("length($body.Weather.Location.State) = 2", "true"),
        ("$body.Weather.Temperature * 2 - 50 = 50", "true"),
        ("$body.Weather.Temperature = '50'", "undefined"),
        ("is_defined($body.Weather.Wind)", "false"),
        ("$body[0] = 'Feb'", "undefined"),
        ("$body", "undefined"),
        ("as_number(severity) > 3", "true"),
        ("$twin.tags.deploymentLocation.floor = '1'", "true"),
        ("$twin.properties.reported.batteryLevel < 60", "true"),
        ("$twin.properties.desired.$version = 1", "true"),
        ("level IN ['alert', 'alarm'] AND NOT $body.Weather.Temperature > 60", "true"),
    ],
)
def test_what_conditions_come_to(iothub: HubHandle, condition: str, result: str) -> None:
    tried = {
        "body": json.dumps(
            {
                "Weather": {
                    "Temperature": 50,
                    "IsEnabled": True,
                    "Location": {"State": "WA"},
                    "HistoricalData": [{"Month": "Feb"}],
                }
            }
        ),
        "appProperties": {"level": "alert", "iothub-thing": "h", "severity": 4, "$special": "s"},
        "systemProperties": {
            "contentType": "application/json",
            "contentEncoding": "UTF-8",
            "connectionDeviceId": "d1",
            "dt-subject": "thermostat1",
        },
    }
    twin = {
        "tags": {"deploymentLocation": {"floor": "1"}},
        "properties": {"reported": {"batteryLevel": 55}},
    }
    assert iothub.test_route(route(condition), tried, twin) == result


@pytest.mark.parametrize("charset", ["utf-8", "UTF-16", "utf-32"])
def test_a_body_in_each_encoding(iothub: HubHandle, charset: str) -> None:
    system = {"contentType": "application/JSON", "contentEncoding": charset}
    tried = {"body": '{"städte": ["Köln"]}', "systemProperties": system}
    assert iothub.test_route(route("$body.städte[0] = 'Köln'"), tried) == "true"


@pytest.mark.parametrize(
    "system",
    [
        {},
        {"contentType": "application/json"},
        {"contentType": "text/plain", "contentEncoding": "utf-8"},
        {"contentType": "application/json", "contentEncoding": "latin-1"},
    ],
)
def test_a_body_that_does_not_say_what_it_is(iothub: HubHandle, system: dict[str, str]) -> None:
    tried = {"body": '{"a": 1}', "systemProperties": system}
    assert iothub.test_route(route("$body.a = 1"), tried) == "undefined"


def test_which_routes_take_a_message(iothub: HubHandle) -> None:
    hot, twins = route("level = 'alert'"), route(name="t", source="TwinChangeEvents")
    iothub.route(routing(hot, route("level = 'info'", name="s"), twins))
    document = {"message": {"appProperties": {"level": "alert"}}}
    found = iothub.request("POST", "/edgekit/routing/routes/$testall", document)
    assert [one["properties"]["name"] for one in found["routes"]] == ["r"]
    document["routingSource"] = "TwinChangeEvents"  # type: ignore[assignment]
    found = iothub.request("POST", "/edgekit/routing/routes/$testall", document)
    assert [one["properties"]["name"] for one in found["routes"]] == ["t"]


def test_a_condition_that_is_wrong_says_where(iothub: HubHandle) -> None:
    with pytest.raises(SimulatorError, match="character 9: expected"):
        iothub.test_route(route("level = "), {})


def test_enrichments(iothub: HubHandle, registry: Any, connect: Any) -> None:
    stamps = {
        "fixed": "a & b = ü",
        "hub": "$iothubname",
        "site": "$twin.tags.site",
        "rate": "$twin.properties.desired.rate",
        "nothing": "$twin.tags.nothing",
        "odd": "$twin.etag",
    }
    made = [{"key": k, "value": v, "endpointNames": ["alerts"]} for k, v in stamps.items()]
    both = route(endpointNames=["alerts", "events"])
    iothub.route(routing(both, enrichments=made))
    client = connect("enriched")
    twin = Twin(tags={"site": "x"}, properties=TwinProperties(desired={"rate": {"low": 1}}))
    registry.update_twin("enriched", twin)
    client.send_message(message("m", fixed="own", line="7"))
    (plain,) = (e for e in iothub.events() if e["deviceId"] == "enriched")
    (stamped,) = iothub.events(endpoint="alerts")
    assert plain["properties"] == {"fixed": "own", "line": "7"}
    assert stamped["properties"] == {
        "line": "7",
        "fixed": "a & b = ü",
        "hub": "edgekit-hub",
        "site": "x",
        "rate": '{"low":1}',
        "nothing": "$twin.tags.nothing",
        "odd": "$twin.etag",
    }


def test_the_hubs_own_events_are_routed_and_enriched(iothub: HubHandle, registry: Any) -> None:
    stamp = {"key": "site", "value": "$twin.tags.site", "endpointNames": ["alerts"]}
    changed = route("is_defined($body.tags.site)", source="TwinChangeEvents")
    iothub.route(routing(changed, enrichments=[stamp]))
    registry.create_device_with_sas("own", None, None, "enabled")
    registry.update_twin("own", Twin(tags={"line": "7"}))
    registry.update_twin("own", Twin(tags={"site": "x"}))
    (event,) = iothub.events(endpoint="alerts")
    assert event["body"]["tags"] == {"site": "x"}
    assert event["properties"]["site"] == "x"
    assert event["systemProperties"]["iothub-message-source"] == "twinChangeEvents"


def test_routes_hold_after_kill_minus_nine(tmp_path: Path, monkeypatch: Any) -> None:
    with start_hub(tmp_path / "hub") as hub:
        hub.route(routing(route("$twin.tags.site = 'a'")))
        hub.create_device("d1")
        hub.request("PATCH", "/twins/d1", {"tags": {"site": "a"}})
        before = hub.routing()
        hub.kill()
        hub.start()
        assert hub.routing() == before
        monkeypatch.setenv("SSL_CERT_FILE", hub.ca_file)
        send(hub, "d1", "kept")
        hub.kill()
        hub.start()
        assert bodies(hub, "d1", "alerts") == ["kept"]
        with consumer(hub) as reader:
            partitions = [reader.get_partition_properties(p) for p in "0123"]
        assert all(p["is_empty"] for p in partitions)


def send(hub: HubHandle, device_id: str, body: str) -> None:
    from azure.iot.device import IoTHubDeviceClient

    client: Any = IoTHubDeviceClient.create_from_connection_string(
        hub.device_connection_string(device_id)
    )
    client.send_message(body)
    client.shutdown()


def test_routes_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text(
        "endpoints: {eventHubs: [{name: alerts}]}\n"
        "routes:\n"
        "  - name: hot\n    source: DeviceMessages\n    condition: level = 'alert'\n"
        "    endpointNames: [alerts]\n"
    )
    with start_hub(tmp_path / "hub", options=[f"--routes={file}"]) as hub:
        found = hub.routing()
        assert [one["condition"] for one in found["routes"]] == ["level = 'alert'"]
        assert not found["fallbackRoute"]["isEnabled"]  # as in a template that leaves it out


WRONG: list[tuple[Any, str]] = [
    ([], "routing must be an object"),
    ({"route": []}, "routing has 'route'"),
    ({"routes": {}}, "routes must be a list"),
    ({"routes": [{"name": "r"}]}, r"routes\[0\] has no source"),
    (routing(route(source="Messages")), "route 'r': source 'Messages' is none of DeviceMessages"),
    (routing(route("a = ")), "route 'r': query, character 5: expected"),
    (routing(route("shout(a)")), r"route 'r': query: there is no function shout\(\)"),
    (routing(route(endpointNames=["x"])), "route 'r' names the endpoint 'x', which is not there"),
    (routing(route(), route()), "two of the route 'r'"),
    (routing(route(isEnabled="no")), "isEnabled true or false"),
    ({"endpoints": {"eventHubs": [{"name": "events"}]}}, "no endpoint can be called 'events'"),
    ({"endpoints": {"eventHubs": [{"name": "a b"}]}}, "the name of an event hub endpoint"),
    ({"endpoints": {"serviceBusQueues": [{"name": "q"}]}}, "no Service Bus here"),
    ({"endpoints": {"storageContainers": [{"name": "s"}]}}, "has no containerName"),
    (routing(*[route(name=f"r{n}") for n in range(101)]), "101 routes are more than the 100"),
    ({"fallbackRoute": {"condition": "false"}}, "fallbackRoute takes DeviceMessages"),
    ({"enrichments": [{"key": "a b", "value": "x", "endpointNames": ["events"]}]}, "key 'a b'"),
    (
        {"endpoints": {"storageContainers": [{"name": "s", "containerName": "abc"}]}},
        "EDGEKIT_STORAGE_CONNECTION_STRING",
    ),
    (
        {
            "endpoints": {
                "storageContainers": [
                    {"name": "s", "containerName": "abc", "fileNameFormat": "{iothub}/{mm}"}
                ]
            }
        },
        r"fileNameFormat must have \{partition\} once",
    ),
]


@pytest.mark.parametrize(("document", "told"), WRONG)
def test_what_is_wrong_is_told_in_one_line(iothub: HubHandle, document: Any, told: str) -> None:
    before = iothub.routing()
    if isinstance(document, dict):
        with pytest.raises(SimulatorError, match=told) as error:
            iothub.route(document)
        assert "\n" not in str(error.value)
    else:
        with pytest.raises(HubFault, match=told):
            read_routing(document)
    assert iothub.routing() == before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("routes: [", "line 1"),
        ("routes: {}", "routes must be a list"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_wrong_starts_no_hub(tmp_path: Path, text: str | None, told: str) -> None:
    file = tmp_path / "routes.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SimulatorError, match=told), start_hub(options=[f"--routes={file}"]):
        pass


names = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)


@given(st.lists(names, unique=True, min_size=1, max_size=5), st.booleans(), st.text(min_size=1))
def test_a_section_is_read_as_it_was_written(streams: list[str], enabled: bool, value: str) -> None:
    section = read_routing(
        {
            "endpoints": {"eventHubs": [{"name": f"s-{name}"} for name in streams]},
            "routes": [
                route(name=name, endpointNames=[f"s-{name}"], isEnabled=enabled) for name in streams
            ],
            "fallbackRoute": {"isEnabled": enabled},
            "enrichments": [{"key": "k", "value": value, "endpointNames": ["events"]}],
        }
    )
    assert read_routing(section.document()) == section != Routing()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["endpoints", "routes", "eventHubs", "name", "enrichments", "x"])
                | st.text(max_size=5),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_whatever_is_sent_is_read_or_refused(document: Any) -> None:
    refusal = None
    try:
        read_routing(document)
    except HubFault as fault:
        refusal = fault
    assert refusal is None or (refusal.status == 400 and "\n" not in str(refusal))
