"""The device API over HTTP, as the C and Node SDKs use it: good paths and bad ones."""

import base64
from typing import Any

import pytest

from edgekit_sim.dps.attestation import derive_key
from edgekit_sim.iothub.handle import HubHandle
from tests.edgekit_sim.dps.clients import Api, Device


@pytest.fixture
def device(iothub: HubHandle, api: Api, request: pytest.FixtureRequest) -> Device:
    """An enrolled device named after its test."""
    name = request.node.name.partition("[")[0].replace("_", "-")
    document = {"attestation": {"type": "symmetricKey"}}
    api.call("DELETE", f"/enrollments/{name}")
    _, kept, _ = api.call("PUT", f"/enrollments/{name}", document)
    return Device(iothub, name, kept["attestation"]["symmetricKey"]["primaryKey"])


def test_a_registration_from_start_to_end(iothub: HubHandle, device: Device) -> None:
    status, begun, headers = device.begin()
    state = device.outcome(begun["operationId"])
    _, done, _ = device.status(begun["operationId"])
    looked_up = device.lookup()[1]
    assert (status, begun["status"], headers["retry-after"]) == (202, "assigning", "3")
    assert (done["status"], done["operationId"]) == ("assigned", begun["operationId"])
    assert done["registrationState"] == state
    assert state.pop("symmetricKey") == {}
    assert looked_up == state
    assert state["assignedHub"] == iothub.gateway


def test_a_token_that_has_expired(device: Device) -> None:
    status, error, _ = device.begin(token=device.token(-5))
    assert (status, error["errorCode"], error["message"]) == (401, 401002, "Unauthorized")


def test_a_token_for_another_registration(iothub: HubHandle, api: Api, device: Device) -> None:
    other = Device(iothub, "another", api.enroll("another"))
    assert device.begin(token=other.token())[0] == 401


def test_a_token_of_a_service_policy(api: Api, device: Device) -> None:
    assert device.begin(token=api.token())[0] == 401


def test_no_token(device: Device) -> None:
    assert device.begin(token="none")[0] == 401


@pytest.mark.parametrize("body", [b"no JSON", b"[]", {"registrationId": "somebody-else"}])
def test_a_bad_body(api: Api, device: Device, body: Any) -> None:
    status, error, _ = api.call("PUT", f"{device.path}/register", body, device.token())
    assert (status, error["errorCode"]) == (400, 400004)


def test_an_unknown_operation(device: Device) -> None:
    device.register()
    status, error, _ = device.status("5.unknown")
    assert (status, error["errorCode"]) == (404, 404204)


def test_a_state_before_any_registration(device: Device) -> None:
    status, error, _ = device.lookup()
    assert (status, error["errorCode"]) == (404, 404203)


def test_another_method(api: Api, device: Device) -> None:
    assert api.call("DELETE", f"{device.path}/register", None, device.token())[0] == 405


def test_a_disabled_enrollment(iothub: HubHandle, api: Api) -> None:
    device = Device(iothub, "off", api.enroll("off", provisioningStatus="disabled"))
    status, document, _ = device.begin()
    state = {"registrationId": "off", "status": "disabled"}
    expected = {"operationId": "", "status": "disabled", "registrationState": state}
    assert (status, document) == (200, expected)


def test_a_throttled_request(api: Api, device: Device) -> None:
    api.call("POST", "/edgekit/dps/throttle", {"requests": 1, "retryAfter": 7})
    status, error, headers = device.begin()
    assert (status, error["errorCode"], headers["retry-after"]) == (429, 429001, "7")
    assert device.register()["status"] == "assigned"


def test_an_enrollment_deleted_meanwhile(api: Api, device: Device) -> None:
    device.register()
    api.call("DELETE", f"/enrollments/{device.id}")
    assert device.begin()[0] == 401
    assert device.lookup()[0] == 401


def test_a_key_derived_from_the_id_in_lower_case(iothub: HubHandle, api: Api) -> None:
    key = derive_key(api.enroll_group("mixed"), "unit-a")
    assert Device(iothub, "Unit-A", key).register()["status"] == "assigned"
    text = iothub.request("GET", "/devices/Unit-A")["authentication"]["symmetricKey"]
    assert text["primaryKey"] == key


def test_the_known_answer_of_key_derivation() -> None:
    # RFC 4231, test case 2
    key = base64.b64encode(b"Jefe").decode()
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    derived = derive_key(key, "what do ya want for nothing?")
    assert base64.b64decode(derived).hex() == expected
