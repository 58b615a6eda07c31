"""Routes between modules and to the hub; modules use the unmodified SDK, each in a process."""

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit_sim.iotedge import EdgeDevice
from edgekit_sim.iotedge.config import ConnectionString
from edgekit_sim.iotedge.edge_hub import read_edge_routes
from edgekit_sim.iotedge.edge_hub.forward import Forward
from edgekit_sim.iotedge.edge_hub.routes import EdgeRoute
from edgekit_sim.iotedge.edge_hub.server import ModuleGate
from edgekit_sim.iotedge.errors import DeploymentRefused
from edgekit_sim.iotedge.identities import Identities
from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.routing.conditions import Message
from edgekit_sim.iothub.store import Store

KEY = tokens.new_key()
Eventually = Callable[..., Any]

# a module that connects as edge modules do; what it does next says its environment
MODULE = """
import json, os, sys, time
from azure.iot.device import IoTHubModuleClient, Message, MethodResponse

client = IoTHubModuleClient.create_from_edge_environment()

def pass_on(message):
    made = Message(message.data)
    made.content_type, made.content_encoding = message.content_type, message.content_encoding
    made.custom_properties = {**message.custom_properties, "by": os.environ["IOTEDGE_MODULEID"]}
    made.custom_properties["input"] = message.input_name
    client.send_message_to_output(made, "out")

def answer(request):
    client.send_method_response(MethodResponse.create_from_method_request(request, 200, {"ok": 1}))

if os.environ["ROLE"] == "filter":
    client.on_message_received = pass_on
    client.on_method_request_received = answer
client.connect()
if os.environ["ROLE"] == "waiting":  # the SDK's old way, which drops what comes before its call
    client.receive_message_on_input("in", block=False)
    client.patch_twin_reported_properties({"listens": True})
    while True:
        pass_on(client.receive_message_on_input("in"))
if os.environ["ROLE"] == "source":
    time.sleep(float(os.environ.get("WAIT", "0")))
    for number in range(int(os.environ["COUNT"])):
        made = Message(json.dumps({"number": number}))
        made.content_type, made.content_encoding = "application/json", "utf-8"
        made.custom_properties["kind"] = "even" if number % 2 == 0 else "odd"
        client.send_message_to_output(made, "numbers")
if os.environ["ROLE"] == "filter":
    twin = client.get_twin()
    client.patch_twin_reported_properties({"seen": twin["desired"].get("rate", 0)})
while True:
    time.sleep(1)
"""


class Line:
    """Deploys modules and routes to a site."""

    def __init__(self, site: Any, folder: Path) -> None:
        self.site = site
        self._program = folder / "module.py"
        self._program.write_text(MODULE)

    def module(self, role: str, **environment: str) -> dict[str, Any]:
        made: dict[str, Any] = self.site.module("x", status="running")
        options = {"Entrypoint": ["/usr/bin/python3"], "Cmd": [str(self._program)]}
        made["settings"]["createOptions"] = json.dumps(options)
        made["env"] |= {k: {"value": v} for k, v in {"ROLE": role, **environment}.items()}
        return made

    def deploy(self, modules: dict[str, Any], routes: dict[str, Any], **hub: Any) -> None:
        self.site.deploy(modules)
        patch = {"schemaVersion": "1.1", "routes": routes, **hub}
        path = f"/twins/{self.site.device_id}/modules/$edgeHub"
        self.site.hub.request("PATCH", path, {"properties": {"desired": patch}})

    def numbers(self) -> list[tuple[str, int]]:
        """Modules and numbers of the messages at the hub, in order."""
        return [(event["moduleId"], event["body"]["number"]) for event in self.site.received()]


@pytest.fixture
def line(site: Any, tmp_path: Path) -> Line:
    return Line(site, tmp_path)


ROUTES = {
    "to-filter": 'FROM /messages/modules/source/outputs/numbers WHERE kind = "even" '
    'INTO BrokeredEndpoint("/modules/filter/inputs/in")',
    "up": "FROM /messages/modules/filter/outputs/* INTO $upstream",
}


def test_messages_go_from_module_to_module_and_up(line: Line, eventually: Eventually) -> None:
    modules = {"filter": line.module("filter"), "source": line.module("source", COUNT="10")}
    line.deploy(modules, ROUTES)
    site = line.site
    with EdgeDevice(site.changed(edge_hub="on")):
        eventually(lambda: len(line.numbers()) >= 5)
        assert sorted(line.numbers()) == [("filter", number) for number in range(0, 10, 2)]
        event = site.received()[0]
        assert event["properties"] == {"kind": "even", "by": "filter", "input": "in"}
        assert event["systemProperties"]["iothub-output-name"] == "out"
        assert event["systemProperties"]["content-type"] == "application/json"
        assert site.reported("$edgeHub")["lastDesiredStatus"] == {"code": 200, "description": ""}

        # twins and methods go through it
        path = f"/twins/{site.device_id}/modules/filter"
        eventually(lambda: "seen" in site.reported("filter"))
        method = {"methodName": "ask", "connectTimeoutInSeconds": 20}
        answer = site.hub.request("POST", f"{path}/methods", method)
        assert (answer["status"], answer["payload"]) == (200, {"ok": 1})


def test_what_the_hub_does_not_take_waits_over_a_power_cut(
    line: Line, eventually: Eventually
) -> None:
    source = line.module("source", COUNT="30", WAIT="3")
    line.deploy({"source": source}, {"up": "FROM /messages/* INTO $upstream"})
    site = line.site
    device = EdgeDevice(site.changed(edge_hub="on"))
    device.start()
    database = site.config.state / "hub" / "messages.db"
    try:
        eventually(lambda: site.reported("$edgeHub").get("lastDesiredStatus"))
        site.hub.partition([site.device_id])
        eventually(lambda: waiting(database) == 30)
        assert line.numbers() == []
    finally:
        device.kill()
    stopped = line.module("source", COUNT="0")
    line.deploy({"source": stopped}, {"up": "FROM /messages/* INTO $upstream"})
    with device:
        site.hub.heal()
        eventually(lambda: len(set(line.numbers())) == 30)
        assert set(line.numbers()) == {("source", number) for number in range(30)}
        eventually(lambda: waiting(database) == 0)


def test_a_module_that_receives_on_an_input(line: Line, eventually: Eventually) -> None:
    waits = line.module("waiting")
    line.deploy({"filter": waits}, ROUTES)
    with EdgeDevice(line.site.changed(edge_hub="on")):
        eventually(lambda: line.site.reported("filter").get("listens"))
        line.deploy({"filter": waits, "source": line.module("source", COUNT="10")}, ROUTES)
        eventually(lambda: len(line.numbers()) >= 5)
        assert sorted(line.numbers()) == [("filter", number) for number in range(0, 10, 2)]


def test_messages_wait_for_a_module_that_is_not_there_yet(
    line: Line, eventually: Eventually
) -> None:
    source = line.module("source", COUNT="10", WAIT="2")
    line.deploy({"source": source}, ROUTES)
    database = line.site.config.state / "hub" / "messages.db"
    with EdgeDevice(line.site.changed(edge_hub="on")):
        eventually(lambda: database.exists() and waiting(database) == 5)
        line.deploy({"source": source, "filter": line.module("filter")}, ROUTES)
        eventually(lambda: len(line.numbers()) >= 5)
        # the SDK hands what comes close together to several threads of the module
        assert sorted(line.numbers()) == [("filter", number) for number in range(0, 10, 2)]
        eventually(lambda: waiting(database) == 0)


def waiting(database: Path) -> int:
    import sqlite3

    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as reader:
        ((count,),) = reader.execute("SELECT count(*) FROM forward")
    reader.close()
    return int(count)


def test_routes_that_are_wrong_are_reported_and_change_nothing(
    line: Line, eventually: Eventually
) -> None:
    line.deploy({}, {"up": "FROM /messages/* WHERE a = INTO $upstream"})
    with EdgeDevice(line.site.changed(edge_hub="on")):
        status = eventually(lambda: line.site.reported("$edgeHub").get("lastDesiredStatus"))
        assert status["code"] == 400
        assert "route up: query, character 4" in status["description"]


@pytest.mark.parametrize(
    ("source", "output", "taken"),
    [
        ("/messages/*", "o", True),
        ("/*", "", True),
        ("/messages/modules/m/*", "", True),
        ("/messages/modules/m/*", "o", True),
        ("/messages/modules/other/*", "o", False),
        ("/messages/modules/m/outputs/o", "o", True),
        ("/messages/modules/m/outputs/o", "p", False),
        ("/messages/modules/m/outputs/*", "", False),
        ("/messages/modules/*/outputs/o", "o", True),
    ],
)
def test_which_sources_take_a_message(source: str, output: str, taken: bool) -> None:
    routes = read_edge_routes(
        {"schemaVersion": "1.1", "routes": {"r": f"FROM {source} INTO $upstream"}}
    )
    message = Message("", b"", Identity("d", "m"))
    assert bool(routes.sinks(message, output)) is taken


def test_the_most_urgent_route_to_a_place_counts() -> None:
    up = {"route": "FROM /messages/* INTO $upstream", "timeToLiveSecs": 60}
    routes = {"slow": {**up, "priority": 5}, "fast": {**up, "priority": 1}, "last": up["route"]}
    read = read_edge_routes(
        {
            "schemaVersion": "1.1",
            "routes": routes,
            "storeAndForwardConfiguration": {"timeToLiveSecs": 5},
        }
    )
    assert [(r.priority, r.seconds) for r in read.routes] == [(5, 60.0), (1, 60.0), (9, 5.0)]
    sinks = read.sinks(Message("", b"", Identity("d", "m")), "")
    assert {place: route.priority for place, route in sinks.items()} == {"$upstream": 1}


@pytest.mark.parametrize(
    ("properties", "told"),
    [
        ({"schemaVersion": "9.9"}, "schema '9.9'"),
        ({"schemaVersion": "1.1", "routes": []}, "must be an object"),
        ({"schemaVersion": "1.1", "routes": {"r": "FROM x"}}, "route r:"),
        ({"schemaVersion": "1.1", "routes": {"r": {"priority": 1}}}, "route r has no text"),
        (
            {
                "schemaVersion": "1.1",
                "routes": {"r": {"route": "FROM /messages/* INTO $upstream", "priority": 10}},
            },
            "priority of route r is 10",
        ),
    ],
)
def test_what_is_wrong_is_told(properties: dict[str, Any], told: str) -> None:
    properties.setdefault("routes", {})
    if properties["routes"] == []:
        properties["routes"] = ["x"]
    with pytest.raises(DeploymentRefused, match=told):
        read_edge_routes(properties)


def routed(place: str, priority: int = 9, seconds: float = 60) -> EdgeRoute:
    return EdgeRoute(re.compile(".*"), lambda _message: True, place, priority, seconds)


def test_the_urgent_goes_first_and_the_late_never(tmp_path: Path) -> None:
    async def run() -> list[list[str]]:
        store = Store(tmp_path / "messages.db")
        forward = Forward(store)
        store.start(lambda error: logging.error("%s", error))
        forward.put(routed("m/in", priority=5), "a", "p=late", b"")
        forward.put(routed("m/in", priority=1), "a", "p=first", b"")
        forward.put(routed("m/in", seconds=0), "a", "p=never", b"")
        forward.put(routed("$upstream"), "a", "p=up", b"")
        await store.committed()
        seen = [[one.properties for one in forward.waiting("m", 10)]]
        forward.done(forward.waiting("m", 1)[0].id)
        seen.append([one.properties for one in forward.waiting("m", 10)])
        forward.expire()
        await store.committed()
        forward.expire()
        left = store.read("SELECT properties FROM forward ORDER BY id")
        store.close()
        return [*seen, [properties for (properties,) in left]]

    assert asyncio.run(run()) == [["p=first", "p=late"], ["p=late"], ["p=late", "p=up"]]


@pytest.fixture
def gate(tmp_path: Path) -> ModuleGate:
    kept = [{"name": name, "generation": "1", "key": KEY} for name in ("m", "n")]
    (tmp_path / "identities.json").write_text(json.dumps(kept))
    connection = ConnectionString("hub", "d", KEY, "")
    return ModuleGate(
        connection, Identities(connection, "https://hub", "", tmp_path / "identities.json")
    )


def test_a_module_comes_in_with_its_own_token(gate: ModuleGate) -> None:
    until = int(time.time()) + 60
    identity, expires = gate.device(
        "d", "m", tokens.sign("hub/devices/d/modules/m", KEY, until), ()
    )
    assert (identity.client_id, expires) == ("d/m", until)


@pytest.mark.parametrize(
    ("module", "password"),
    [
        ("m", None),
        ("m", "nonsense"),
        ("m", tokens.sign("hub/devices/d/modules/n", KEY, 2**31)),
        ("m", tokens.sign("hub/devices/d", KEY, 2**31)),
        ("m", tokens.sign("hub/devices/d/modules/m", tokens.new_key(), 2**31)),
        ("m", tokens.sign("hub/devices/d/modules/m", KEY, 1)),
        ("other", tokens.sign("hub/devices/d/modules/other", KEY, 2**31)),
        ("", tokens.sign("hub/devices/d", KEY, 2**31)),
    ],
)
def test_nobody_else_comes_in(gate: ModuleGate, module: str, password: str | None) -> None:
    with pytest.raises(HubFault) as refusal:
        gate.device("d", module, password, ())
    assert refusal.value.status == 401
