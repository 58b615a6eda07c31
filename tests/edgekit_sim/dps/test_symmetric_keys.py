"""Devices that register by symmetric key, through the unmodified azure-iot-device."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient, exceptions
from azure.iot.device.aio import IoTHubDeviceClient as AsyncDeviceClient
from azure.iot.device.aio import ProvisioningDeviceClient as AsyncProvisioningClient
from provisioningserviceclient import ProvisioningServiceClient
from provisioningserviceclient.models import AttestationMechanism, EnrollmentGroup, InitialTwin

from edgekit_sim.dps.attestation import derive_key
from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.handle import HubHandle

Enroll = Callable[..., str]


def refusal(client: Any) -> str:
    """Why a registration was refused: the SDK's words, which hold the service's status."""
    with pytest.raises(exceptions.ClientError) as caught:
        client.register()
    cause = caught.value.__cause__
    assert isinstance(cause, exceptions.ServiceError)
    return str(cause)


def test_an_enrolled_device_registers_connects_and_sends(
    iothub: HubHandle, enroll: Enroll, provisioning: Any
) -> None:
    twin = InitialTwin.create({"site": "north"}, {"model": "digits:1"})
    key = enroll("line-1", device_id="camera-1", initial_twin=twin)
    result = provisioning("line-1", key).register()
    state = result.registration_state
    assert (result.status, state.sub_status) == ("assigned", "initialAssignment")
    assert (state.device_id, state.assigned_hub) == ("camera-1", iothub.gateway)
    device = IoTHubDeviceClient.create_from_symmetric_key(key, state.assigned_hub, state.device_id)
    device.send_message("provisioned")
    seen = device.get_twin()
    device.shutdown()
    bodies = [event["body"] for event in iothub.events() if event["deviceId"] == "camera-1"]
    assert bodies == ["provisioned"]
    assert seen["desired"]["model"] == "digits:1"
    assert iothub.request("GET", "/twins/camera-1")["tags"] == {"site": "north"}


def test_a_device_of_a_group_registers_with_its_derived_key(
    iothub: HubHandle, dps: ProvisioningServiceClient, provisioning: Any
) -> None:
    group = EnrollmentGroup.create("factory", AttestationMechanism(type="symmetricKey"))
    kept = dps.create_or_update(group)
    key = derive_key(kept.attestation.symmetric_key.primary_key, "robot-7")
    result = provisioning("robot-7", key).register()
    assert (result.status, result.registration_state.device_id) == ("assigned", "robot-7")
    device = IoTHubDeviceClient.create_from_symmetric_key(
        key, result.registration_state.assigned_hub, "robot-7"
    )
    device.send_message("from the group")
    device.shutdown()
    assert [e["body"] for e in iothub.events() if e["deviceId"] == "robot-7"] == ["from the group"]


def test_asynchronous_clients(iothub: HubHandle, enroll: Enroll) -> None:
    key = enroll("aio-1")

    async def run() -> str:
        aio = AsyncProvisioningClient.create_from_symmetric_key(
            iothub.dps_device_host, "aio-1", iothub.dps_id_scope, key
        )
        aio.provisioning_payload = {"from": "aio"}
        result = await aio.register()
        device = AsyncDeviceClient.create_from_symmetric_key(
            key, result.registration_state.assigned_hub, result.registration_state.device_id
        )
        await device.send_message("async")
        await device.shutdown()
        return str(result.status)

    assert asyncio.run(run()) == "assigned"
    assert [e["body"] for e in iothub.events() if e["deviceId"] == "aio-1"] == ["async"]


@pytest.mark.needs("port-443")
def test_over_websocket(enroll: Enroll, provisioning: Any) -> None:
    result = provisioning("ws-1", enroll("ws-1"), websockets=True).register()
    assert result.status == "assigned"


def test_an_edge_device(iothub: HubHandle, api: Any, provisioning: Any) -> None:
    key = api.enroll("edge-1", capabilities={"iotEdge": True})
    assert provisioning("edge-1", key).register().status == "assigned"
    modules = iothub.request("GET", "/devices/edge-1/modules")
    assert sorted(module["moduleId"] for module in modules) == ["$edgeAgent", "$edgeHub"]


def test_the_secondary_key_opens_too(
    enroll: Enroll, dps: ProvisioningServiceClient, provisioning: Any
) -> None:
    enroll("second")
    keys = dps.get_individual_enrollment_attestation_mechanism("second").symmetric_key
    assert provisioning("second", keys.secondary_key).register().status == "assigned"


def test_a_wrong_key_is_refused(enroll: Enroll, provisioning: Any) -> None:
    enroll("wrong-key")
    assert "status code 401" in refusal(provisioning("wrong-key", tokens.new_key()))


def test_a_device_that_is_not_enrolled_is_refused(provisioning: Any) -> None:
    assert "status code 401" in refusal(provisioning("nobody", tokens.new_key()))


def test_another_scope_is_refused(enroll: Enroll, provisioning: Any) -> None:
    key = enroll("other-scope")
    client = provisioning("other-scope", key, id_scope="0ne00000000")
    assert "status code 401" in refusal(client)


def test_a_disabled_enrollment_is_refused(
    iothub: HubHandle, enroll: Enroll, provisioning: Any
) -> None:
    key = enroll("disabled", provisioning_status="disabled")
    assert "invalid registration status disabled" in refusal(provisioning("disabled", key))
    assert [d["deviceId"] for d in iothub.request("GET", "/devices")].count("disabled") == 0


def test_a_disabled_enrollment_keeps_its_device_out_of_the_group(
    dps: ProvisioningServiceClient, enroll: Enroll, provisioning: Any
) -> None:
    group = EnrollmentGroup.create("line", AttestationMechanism(type="symmetricKey"))
    group_key = dps.create_or_update(group).attestation.symmetric_key.primary_key
    enroll("banned", provisioning_status="disabled")
    client = provisioning("banned", derive_key(group_key, "banned"))
    assert "status code 401" in refusal(client)


def test_a_throttled_device_tries_again(api: Any, enroll: Enroll, provisioning: Any) -> None:
    key = enroll("patient")
    api.call("POST", "/edgekit/dps/throttle", {"requests": 2, "retryAfter": 1})
    assert provisioning("patient", key).register().status == "assigned"
