"""Which of two hubs a device gets, and what becomes of it when it registers again."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_sim.dps.allocation import hashed
from edgekit_sim.dps.hubs import LinkedHub, OwnHub
from edgekit_sim.iothub.handle import HubHandle, start_hub
from tests.edgekit_sim.dps.clients import Api, Device

NAMES = st.lists(st.text("abcdefgh-", min_size=1), min_size=1, max_size=6, unique=True)


@pytest.fixture(scope="module")
def second() -> Iterator[HubHandle]:
    with start_hub() as hub:
        yield hub


@pytest.fixture
def linked(iothub: HubHandle, second: HubHandle, api: Api) -> HubHandle:
    """The second hub, linked to the service of the first."""
    link(api, second)
    assert api.call("PUT", f"/edgekit/dps/linkedHubs/{iothub.gateway}", {})[0] == 200
    return second


def link(api: Api, hub: HubHandle, **settings: Any) -> None:
    document = {
        "connectionString": hub.service_connection_string,
        "caCertificate": Path(hub.ca_file).read_text(),
        **settings,
    }
    status, answer, _ = api.call("PUT", f"/edgekit/dps/linkedHubs/{hub.gateway}", document)
    assert (status, answer["name"]) == (200, hub.gateway)


def devices_of(hub: HubHandle) -> set[str]:
    return {device["deviceId"] for device in hub.request("GET", "/devices")}


def named(*names: str) -> list[LinkedHub]:
    nowhere: Any = OwnHub.__new__(OwnHub)
    return [LinkedHub(name, nowhere) for name in names]


# ---- hashed


@given(NAMES, st.text(min_size=1))
def test_hashing_does_not_depend_on_the_order_of_hubs(names: list[str], device: str) -> None:
    chosen = hashed(device, named(*names))
    assert hashed(device, named(*reversed(names))).name == chosen.name


@given(NAMES, st.text(min_size=1))
def test_a_new_hub_moves_devices_only_to_itself(names: list[str], device: str) -> None:
    before = hashed(device, named(*names)).name
    assert hashed(device, named(*names, "new hub")).name in (before, "new hub")


def test_shares_are_as_the_weights() -> None:
    light, heavy = named("light")[0], LinkedHub("heavy", named("x")[0].registry, weight=3)
    shares = Counter(hashed(f"device-{n}", [light, heavy]).name for n in range(4000))
    assert 2850 < shares["heavy"] < 3150


def test_devices_are_spread_over_linked_hubs(
    iothub: HubHandle, linked: HubHandle, api: Api
) -> None:
    states = {}
    for number in range(12):
        name = f"spread-{number}"
        states[name] = Device(iothub, name, api.enroll(name)).register()
    hubs = {iothub.gateway: iothub, linked.gateway: linked}
    assert {state["assignedHub"] for state in states.values()} == set(hubs)
    for name, state in states.items():
        assert name in devices_of(hubs[state["assignedHub"]])


# ---- the other policies


def test_static(iothub: HubHandle, linked: HubHandle, api: Api) -> None:
    key = api.enroll("static-1", allocationPolicy="static", iotHubs=[linked.gateway])
    other = api.enroll("static-2", iotHubHostName=iothub.hostname)
    first = Device(iothub, "static-1", key).register()
    second = Device(iothub, "static-2", other).register()
    assert first["assignedHub"] == linked.gateway
    assert second["assignedHub"] == iothub.gateway
    assert "static-1" in devices_of(linked)
    assert "static-1" not in devices_of(iothub)


def test_the_lowest_latency(iothub: HubHandle, linked: HubHandle, api: Api) -> None:
    key = api.enroll("near-1", allocationPolicy="geoLatency")
    link(api, linked, latency=80)
    far = Device(iothub, "near-1", key).register()
    link(api, linked, latency=0)
    api.call("PUT", f"/edgekit/dps/linkedHubs/{iothub.gateway}", {"latency": 10})
    near = Device(iothub, "near-1", key).register()
    assert [far["assignedHub"], near["assignedHub"]] == [iothub.gateway, linked.gateway]


def test_a_hub_that_is_not_linked(iothub: HubHandle, api: Api) -> None:
    key = api.enroll("lost-1", allocationPolicy="static", iotHubs=["nowhere.example"])
    state = Device(iothub, "lost-1", key).register()
    assert (state["status"], state["errorCode"]) == ("failed", 400208)
    assert state["errorMessage"] == "IoT hub is not linked: nowhere.example."


def test_a_hub_that_does_not_answer(iothub: HubHandle, api: Api) -> None:
    with start_hub() as gone:
        link(api, gone, applyAllocationPolicy=False)
        name = gone.gateway
    key = api.enroll("unlucky", allocationPolicy="static", iotHubs=[name])
    state = Device(iothub, "unlucky", key).register()
    assert (state["status"], state["errorCode"]) == ("failed", 500208)
    assert api.call("DELETE", f"/edgekit/dps/linkedHubs/{name}")[0] == 204


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"connectionString": "HostName=x"},
        {"allocationWeight": 0},
        {"allocationWeight": "much"},
        {"latency": -1},
    ],
)
def test_a_bad_link_is_refused(linked: HubHandle, api: Api, document: Any) -> None:
    text = linked.service_connection_string
    document = document and {"connectionString": text, **document}
    assert api.call("PUT", "/edgekit/dps/linkedHubs/bad.example", document)[0] == 400
    names = [hub["name"] for hub in api.call("GET", "/edgekit/dps/linkedHubs")[1]]
    assert "bad.example" not in names


# ---- custom


class Webhook:
    """An allocation function as users write them, on a port of its own."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.answer: Callable[[Any], tuple[int, Any]] = lambda _: (500, {})
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                webhook.asked.append(asked)
                status, document = webhook.answer(asked)
                body = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/allocate"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def settings(self) -> dict[str, Any]:
        definition = {"webhookUrl": self.url, "apiVersion": "2021-10-01"}
        return {"allocationPolicy": "custom", "customAllocationDefinition": definition}


CHOSE_ANOTHER = (
    "Custom allocation failed: the webhook chose x.example, which is not one of linkedHubs."
)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    one = Webhook()
    yield one
    one.close()


def test_custom(
    iothub: HubHandle, linked: HubHandle, api: Api, webhook: Webhook, provisioning: Any
) -> None:
    webhook.answer = lambda asked: (
        200,
        {
            "iotHubHostName": linked.gateway,
            "initialTwin": {"tags": {"kind": asked["deviceRuntimeContext"]["payload"]["kind"]}},
            "payload": {"welcome": True},
        },
    )
    key = api.enroll("custom-1", **webhook.settings)
    client = provisioning("custom-1", key)
    client.provisioning_payload = {"kind": "camera"}
    state = client.register().registration_state
    (asked,) = webhook.asked
    assert state.assigned_hub == linked.gateway
    assert json.loads(state.response_payload) == {"welcome": True}
    assert asked["individualEnrollment"]["registrationId"] == "custom-1"
    assert "symmetricKey" not in asked["individualEnrollment"]["attestation"]
    assert asked["linkedHubs"] == [iothub.gateway, linked.gateway]
    assert asked["deviceRuntimeContext"]["registrationId"] == "custom-1"
    assert linked.request("GET", "/twins/custom-1")["tags"] == {"kind": "camera"}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((400, {}), "Custom allocation failed with status code: 400"),
        ((200, b"no JSON"), "Custom allocation failed: the webhook named no iotHubHostName."),
        ((200, {}), "Custom allocation failed: the webhook named no iotHubHostName."),
        (
            (200, {"iotHubHostName": "x.example"}),
            CHOSE_ANOTHER,
        ),
    ],
)
def test_custom_that_fails(
    iothub: HubHandle, api: Api, webhook: Webhook, answer: tuple[int, Any], message: str
) -> None:
    webhook.answer = lambda _: answer
    document = {"attestation": {"type": "symmetricKey"}, **webhook.settings}
    api.call("DELETE", "/enrollments/custom-2")
    _, kept, _ = api.call("PUT", "/enrollments/custom-2", document)
    key = kept["attestation"]["symmetricKey"]["primaryKey"]
    state = Device(iothub, "custom-2", key).register()
    assert (state["errorCode"], state["errorMessage"]) == (400207, message)


def test_custom_that_does_not_answer(iothub: HubHandle, api: Api) -> None:
    definition = {"webhookUrl": "http://127.0.0.1:9/", "apiVersion": "2021-10-01"}
    key = api.enroll("custom-3", allocationPolicy="custom", customAllocationDefinition=definition)
    state = Device(iothub, "custom-3", key).register()
    assert state["errorMessage"] == "Custom allocation failed: the webhook does not answer."


# ---- registering again


def enroll_at(api: Api, name: str, hub: HubHandle, migrate: bool, update: bool = True) -> str:
    return api.enroll(
        name,
        allocationPolicy="static",
        iotHubs=[hub.gateway],
        initialTwin={"tags": {"from": "enrollment"}, "properties": {"desired": {"model": 1}}},
        reprovisionPolicy={"updateHubAssignment": update, "migrateDeviceData": migrate},
    )


def move(api: Api, name: str, hub: HubHandle) -> None:
    _, kept, headers = api.call("GET", f"/enrollments/{name}")
    kept["iotHubs"] = [hub.gateway]
    assert api.call("PUT", f"/enrollments/{name}", kept, If_Match=headers["etag"])[0] == 200


def used(hub: HubHandle, name: str) -> None:
    """Leave traces of use in a device's twin."""
    patch = {"tags": {"seen": True}, "properties": {"desired": {"model": 2}}}
    hub.request("PATCH", f"/twins/{name}", patch)


def data(hub: HubHandle, name: str) -> tuple[Any, Any]:
    twin = hub.request("GET", f"/twins/{name}")
    return twin["tags"], twin["properties"]["desired"]["model"]


def test_registering_again_changes_nothing(iothub: HubHandle, linked: HubHandle, api: Api) -> None:
    device = Device(iothub, "again", enroll_at(api, "again", linked, migrate=True))
    first = device.register()
    used(linked, "again")
    linked.request(
        "POST", "/devices", [{"id": "again", "status": "disabled", "importMode": "update"}]
    )
    second = device.register()
    assert first["substatus"] == "initialAssignment"
    assert second["substatus"] == "reprovisionedToInitialAssignment"
    assert first["createdDateTimeUtc"] == second["createdDateTimeUtc"]
    assert data(linked, "again") == ({"from": "enrollment", "seen": True}, 2)
    assert linked.request("GET", "/devices/again")["status"] == "disabled"


def test_a_move_with_its_data(iothub: HubHandle, linked: HubHandle, api: Api) -> None:
    device = Device(iothub, "migrant", enroll_at(api, "migrant", iothub, migrate=True))
    device.register()
    used(iothub, "migrant")
    move(api, "migrant", linked)
    state = device.register()
    assert (state["assignedHub"], state["substatus"]) == (linked.gateway, "deviceDataMigrated")
    assert data(linked, "migrant") == ({"from": "enrollment", "seen": True}, 2)
    assert "migrant" not in devices_of(iothub)


def test_a_move_that_starts_afresh(iothub: HubHandle, linked: HubHandle, api: Api) -> None:
    device = Device(iothub, "fresh", enroll_at(api, "fresh", linked, migrate=False))
    device.register()
    used(linked, "fresh")
    move(api, "fresh", iothub)
    state = device.register()
    assert (state["assignedHub"], state["substatus"]) == (iothub.gateway, "deviceDataReset")
    assert data(iothub, "fresh") == ({"from": "enrollment"}, 1)
    assert "fresh" not in devices_of(linked)


def test_a_reset_where_it_is(iothub: HubHandle, api: Api) -> None:
    device = Device(iothub, "reset", enroll_at(api, "reset", iothub, migrate=False))
    device.register()
    used(iothub, "reset")
    assert device.register()["substatus"] == "deviceDataReset"
    assert data(iothub, "reset") == ({"from": "enrollment"}, 1)


def test_a_device_that_never_moves(iothub: HubHandle, linked: HubHandle, api: Api) -> None:
    key = enroll_at(api, "settled", iothub, migrate=True, update=False)
    device = Device(iothub, "settled", key)
    device.register()
    used(iothub, "settled")
    move(api, "settled", linked)
    state = device.register()
    assert state["assignedHub"] == iothub.gateway
    assert state["substatus"] == "reprovisionedToInitialAssignment"
    assert data(iothub, "settled") == ({"from": "enrollment", "seen": True}, 2)
    assert "settled" not in devices_of(linked)
