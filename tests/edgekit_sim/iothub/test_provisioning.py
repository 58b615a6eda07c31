"""Provisioning through the unmodified device SDK and azure-iothub-provisioningserviceclient."""

from pathlib import Path
from typing import Any

import pytest
import requests
from azure.iot.device import X509, IoTHubDeviceClient, ProvisioningDeviceClient, exceptions
from provisioningserviceclient import ProvisioningServiceClient, ProvisioningServiceError
from provisioningserviceclient.models import AttestationMechanism, EnrollmentGroup, InitialTwin
from provisioningserviceclient.protocol.models import (
    DeviceCapabilities,
    IndividualEnrollment,
    SymmetricKeyAttestation,
    X509Attestation,
    X509Certificates,
    X509CertificateWithInfo,
)

from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.handle import HubHandle
from edgekit_sim.iothub.provisioning import derive_key
from tests.edgekit_sim.iothub.certificates import issue, pem, private

SYMMETRIC = AttestationMechanism(type="symmetricKey")


@pytest.fixture
def service(iothub: HubHandle) -> ProvisioningServiceClient:
    return ProvisioningServiceClient.create_from_connection_string(
        iothub.dps_service_connection_string
    )


def register(iothub: HubHandle, name: str, key: str, payload: Any = None) -> Any:
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        provisioning_host=iothub.dps_device_host,
        registration_id=name,
        id_scope=iothub.dps_id_scope,
        symmetric_key=key,
    )
    client.provisioning_payload = payload
    return client.register()


def test_one_device_registers_and_connects(iothub: HubHandle, service: Any, registry: Any) -> None:
    twin = InitialTwin.create(tags={"site": "a"}, desired_properties={"rate": 5})
    service.create_or_update(
        IndividualEnrollment(
            registration_id="one",
            device_id="one-device",
            attestation=SYMMETRIC,
            initial_twin=twin,
            capabilities=DeviceCapabilities(iot_edge=True),
        )
    )
    key = service.get_individual_enrollment_attestation_mechanism("one").symmetric_key.primary_key
    result = register(iothub, "one", key)
    assert (result.status, result.registration_state.device_id) == ("assigned", "one-device")
    assert registry.get_device("one-device").capabilities.iot_edge
    made = registry.get_twin("one-device")
    assert (made.tags, made.properties.desired["rate"]) == ({"site": "a"}, 5)
    client = IoTHubDeviceClient.create_from_symmetric_key(
        key, hostname=result.registration_state.assigned_hub, device_id="one-device"
    )
    client.send_message("registered")
    client.shutdown()
    assert iothub.events()[-1]["deviceId"] == "one-device"
    assert service.get_registration_state("one").status == "assigned"
    again = register(iothub, "one", key)
    assert again.registration_state.sub_status == "reprovisionedToInitialAssignment"


def test_a_group_of_devices(iothub: HubHandle, service: Any) -> None:
    service.create_or_update(EnrollmentGroup(enrollment_group_id="group", attestation=SYMMETRIC))
    keys = service.get_enrollment_group_attestation_mechanism("group").symmetric_key
    for name in ("g-1", "g-2", "g-3"):
        result = register(iothub, name, derive_key(keys.primary_key, name))
        assert result.registration_state.device_id == name
    # the client's own create_registration_state_query() fails over its arguments (1.2.0)
    service.delete_registration_state_by_param("g-3")
    found = service._runtime_client.query_device_registration_states("group")
    assert {state.registration_id for state in found} == {"g-1", "g-2"}


def test_a_wrong_key_is_refused(iothub: HubHandle, service: Any) -> None:
    service.create_or_update(IndividualEnrollment(registration_id="wrong", attestation=SYMMETRIC))
    with pytest.raises(exceptions.CredentialError):
        register(iothub, "wrong", tokens.new_key())


def test_a_disabled_enrolment_is_refused(iothub: HubHandle, service: Any) -> None:
    key = tokens.new_key()
    attestation = AttestationMechanism(
        type="symmetricKey",
        symmetric_key=SymmetricKeyAttestation(primary_key=key, secondary_key=tokens.new_key()),
    )
    enrollment = IndividualEnrollment(
        registration_id="off", attestation=attestation, provisioning_status="disabled"
    )
    service.create_or_update(enrollment)
    with pytest.raises(exceptions.CredentialError):
        register(iothub, "off", key)


def test_enrolments_of_the_service_side(service: Any) -> None:
    made = service.create_or_update(
        IndividualEnrollment(registration_id="crud", attestation=SYMMETRIC)
    )
    stale = service.get_individual_enrollment("crud")
    service.create_or_update(made)
    with pytest.raises(ProvisioningServiceError, match="412"):
        service.create_or_update(stale)
    service.delete_individual_enrollment_by_param("crud")
    with pytest.raises(ProvisioningServiceError, match="404"):
        service.get_individual_enrollment("crud")


def test_a_device_registers_by_http(iothub: HubHandle, service: Any) -> None:
    service.create_or_update(IndividualEnrollment(registration_id="web", attestation=SYMMETRIC))
    key = service.get_individual_enrollment_attestation_mechanism("web").symmetric_key.primary_key
    token = tokens.sign(f"{iothub.dps_id_scope}/registrations/web", key, 4_000_000_000)
    base = (
        f"https://{iothub.gateway}:{iothub.ports['https']}/{iothub.dps_id_scope}/registrations/web"
    )
    headers = {"Authorization": token}
    answer = requests.put(f"{base}/register", json={}, headers=headers, timeout=10)
    operation = answer.json()["operationId"]
    state = requests.get(f"{base}/operations/{operation}", headers=headers, timeout=10).json()
    assert (answer.status_code, state["status"]) == (202, "assigned")
    assert requests.put(f"{base}/register", json={}, timeout=10).status_code == 401


def test_x509(iothub: HubHandle, service: Any, tmp_path: Path) -> None:
    root = issue("dps-root", authority=True)
    leaf, key = issue("leaf-1", root)
    certificates = X509Certificates(primary=X509CertificateWithInfo(certificate=pem(root[0])))
    attestation = AttestationMechanism(
        type="x509", x509=X509Attestation(signing_certificates=certificates)
    )
    service.create_or_update(
        EnrollmentGroup(enrollment_group_id="by-cert", attestation=attestation)
    )
    (tmp_path / "cert.pem").write_text(pem(leaf))
    (tmp_path / "key.pem").write_bytes(private(key))
    client = ProvisioningDeviceClient.create_from_x509_certificate(
        provisioning_host=iothub.dps_device_host,
        registration_id="leaf-1",
        id_scope=iothub.dps_id_scope,
        x509=X509(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")),
    )
    assert client.register().registration_state.device_id == "leaf-1"
