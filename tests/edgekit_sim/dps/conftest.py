"""Clients of the provisioning service under test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from azure.iot.device import ProvisioningDeviceClient
from provisioningserviceclient import ProvisioningServiceClient
from provisioningserviceclient.models import AttestationMechanism, IndividualEnrollment

from edgekit_sim.iothub.handle import HubHandle
from edgekit_sim.iothub.pytest_plugin import iothub as iothub  # a fixture, found by its name
from tests.edgekit_sim.dps.clients import Api, end


@pytest.fixture
def api(iothub: HubHandle) -> Api:
    return Api(iothub)


@pytest.fixture
def dps(iothub: HubHandle) -> ProvisioningServiceClient:
    text = iothub.dps_service_connection_string
    return ProvisioningServiceClient.create_from_connection_string(text)


@pytest.fixture
def enroll(dps: ProvisioningServiceClient) -> Callable[..., str]:
    """Enrols a device by symmetric key through the SDK; returns its primary key."""

    def enroll(registration_id: str, **settings: Any) -> str:
        mechanism = AttestationMechanism(type="symmetricKey")
        enrollment = IndividualEnrollment.create(registration_id, mechanism, **settings)
        kept = dps.create_or_update(enrollment)
        return str(kept.attestation.symmetric_key.primary_key)

    return enroll


@pytest.fixture
def provisioning(iothub: HubHandle) -> Iterator[Callable[..., Any]]:
    """Makes device clients of the SDK by registration id and key."""
    clients: list[Any] = []

    def provisioning(registration_id: str, key: str, **options: Any) -> Any:
        client = ProvisioningDeviceClient.create_from_symmetric_key(
            iothub.dps_device_host,
            registration_id,
            options.pop("id_scope", iothub.dps_id_scope),
            key,
            **options,
        )
        clients.append(client)
        return client

    yield provisioning
    for client in clients:
        end(client)
