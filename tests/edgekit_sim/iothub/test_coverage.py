"""Every public operation of the SDKs is used by a test here, or listed as not supported.

For clients of the service, a test uses an operation where it calls it on a variable that holds such
a client; which names do so is in the table below. Clients of devices are compared with what they
really did, in test_operations.
"""

import re
from dataclasses import dataclass
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
DPS = FOLDER.parent / "dps"
DOCUMENT = FOLDER.parents[2] / "docs" / "iothub.md"
IN_TEST_OPERATIONS = (
    IoTHubDeviceClient,
    IoTHubModuleClient,
    AsyncDeviceClient,
    AsyncModuleClient,
)


@dataclass(frozen=True)
class Where:
    """Where a client is used.

    Attributes:
        client: the client.
        files: the tests.
        names: what they call it: variables, and its class.
    """

    client: type
    files: tuple[Path, ...]
    names: str

    def used(self) -> set[str]:
        """The operations that are called, set or handed over."""
        text = "".join(path.read_text() for path in self.files)
        return set(re.findall(rf"\b(?:{self.names})\.(\w+)", text))


def files(folder: Path, pattern: str = "*.py") -> tuple[Path, ...]:
    return tuple(path for path in folder.glob(pattern) if path != Path(__file__))


EVENTS = (*files(FOLDER, "test_eventhubs*.py"), FOLDER / "test_sdk.py")
SERVICE = (
    Where(IoTHubRegistryManager, files(FOLDER), "registry|IoTHubRegistryManager"),
    Where(IoTHubConfigurationManager, files(FOLDER), "configurations|IoTHubConfigurationManager"),
    Where(IoTHubJobManager, files(FOLDER), "jobs|IoTHubJobManager"),
    Where(IoTHubHttpRuntimeManager, files(FOLDER), "runtime|IoTHubHttpRuntimeManager"),
    Where(DigitalTwinClient, (FOLDER / "test_digital_twins.py",), "twins|DigitalTwinClient"),
    Where(EventHubConsumerClient, EVENTS, "client|reader|EventHubConsumerClient"),
    Where(AsyncConsumerClient, EVENTS, "aio|AsyncConsumerClient"),
    Where(EventHubProducerClient, EVENTS, "producer|EventHubProducerClient"),
    Where(ProvisioningServiceClient, files(DPS), "dps|service|ProvisioningServiceClient"),
    Where(ProvisioningDeviceClient, files(DPS), "client|device|ProvisioningDeviceClient"),
    Where(AsyncProvisioningClient, files(DPS), "aio|AsyncProvisioningClient"),
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


def not_supported() -> dict[str, str]:
    """The documented list: operation to reason."""
    section = DOCUMENT.read_text().split("## Not supported")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|$", section, re.MULTILINE)
    return {name: why.strip() for names, why in rows for name in re.findall(r"`(\w+)`", names)}


@pytest.mark.parametrize(
    "where", SERVICE, ids=lambda w: f"{w.client.__module__}.{w.client.__name__}"
)
def test_every_operation_is_tested_or_listed(where: Where) -> None:
    assert operations(where.client) - where.used() - not_supported().keys() == set()


def test_nothing_is_listed_that_is_tested_or_unknown() -> None:
    listed = not_supported().keys()
    clients = [where.client for where in SERVICE] + list(IN_TEST_OPERATIONS)
    assert listed - set().union(*map(operations, clients)) == set()
    for where in SERVICE:
        assert listed & operations(where.client) & where.used() == set()
