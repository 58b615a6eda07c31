"""Every public operation of the SDKs is used by a test here, or listed as not supported."""

import re
from pathlib import Path
from typing import Any

import pytest
from azure.eventhub import EventHubConsumerClient, EventHubProducerClient
from azure.eventhub.aio import EventHubConsumerClient as AsyncConsumerClient
from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient, ProvisioningDeviceClient
from azure.iot.device.aio import IoTHubDeviceClient as AsyncDeviceClient
from azure.iot.device.aio import IoTHubModuleClient as AsyncModuleClient
from azure.iot.device.aio import ProvisioningDeviceClient as AsyncProvisioningClient
from azure.iot.hub import (
    DigitalTwinClient,
    IoTHubConfigurationManager,
    IoTHubHttpRuntimeManager,
    IoTHubJobManager,
    IoTHubRegistryManager,
)
from provisioningserviceclient import ProvisioningServiceClient

FOLDER = Path(__file__).parent
DOCUMENT = FOLDER.parents[2] / "docs" / "iothub.md"
CLIENTS = (
    IoTHubDeviceClient,
    IoTHubModuleClient,
    AsyncDeviceClient,
    AsyncModuleClient,
    ProvisioningDeviceClient,
    AsyncProvisioningClient,
    IoTHubRegistryManager,
    IoTHubConfigurationManager,
    IoTHubJobManager,
    IoTHubHttpRuntimeManager,
    DigitalTwinClient,
    EventHubConsumerClient,
    AsyncConsumerClient,
    EventHubProducerClient,
    ProvisioningServiceClient,
)


def operations(client: type) -> set[str]:
    """Public methods and settable handlers of a client."""
    found = set()
    for name in dir(client):
        member: Any = getattr(client, name)
        handler = isinstance(member, property) and member.fset is not None
        if not name.startswith("_") and (callable(member) or handler):
            found.add(name)
    return found


def used() -> set[str]:
    """Names that tests call, or set, on something."""
    text = "".join(
        path.read_text()
        for folder in (FOLDER, FOLDER.parent / "dps")
        for path in folder.glob("*.py")
        if path.name != Path(__file__).name
    )
    return set(re.findall(r"\.(\w+)(?:\(| = |,|\))", text))


def not_supported() -> dict[str, str]:
    """The documented list: operation to reason."""
    section = DOCUMENT.read_text().split("## Not supported")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|$", section, re.MULTILINE)
    return {name: why.strip() for names, why in rows for name in re.findall(r"`(\w+)`", names)}


@pytest.mark.parametrize("client", CLIENTS, ids=lambda c: f"{c.__module__}.{c.__name__}")
def test_every_operation_is_tested_or_listed(client: type) -> None:
    assert operations(client) - used() - not_supported().keys() == set()


def test_nothing_is_listed_that_is_tested_or_unknown() -> None:
    known = set().union(*(operations(client) for client in CLIENTS))
    listed = not_supported().keys()
    assert listed & used() == set()
    assert listed - known == set()
