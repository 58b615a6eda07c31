"""Clients of the hub under test, as users write them."""

import gc
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient
from azure.iot.hub import IoTHubConfigurationManager, IoTHubRegistryManager

from edgekit_sim.iothub.handle import HubHandle
from edgekit_sim.iothub.pytest_plugin import iothub as iothub  # a fixture, found by its name
from tests.azurite import Azurite

FOLDER = Path(__file__).parent
# paho and the SDKs over it leave sockets to the garbage collector when they reconnect or close
LEAKS = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == FOLDER:
            item.add_marker(LEAKS)


@pytest.fixture(scope="module", autouse=True)
def _collect_what_clients_left() -> Iterator[None]:
    """Have it done here, and not in the middle of somebody else's test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def registry(iothub: HubHandle) -> IoTHubRegistryManager:
    return IoTHubRegistryManager.from_connection_string(iothub.service_connection_string)


@pytest.fixture
def configurations(iothub: HubHandle) -> IoTHubConfigurationManager:
    return IoTHubConfigurationManager.from_connection_string(iothub.service_connection_string)


@pytest.fixture
def connect(iothub: HubHandle) -> Iterator[Callable[..., Any]]:
    """Connects a device or module by its ids, registering the device first."""
    clients: list[Any] = []

    def connect(device_id: str, module_id: str = "", **options: Any) -> Any:
        iothub.create_device(device_id)
        if module_id and not any(
            m["moduleId"] == module_id
            for m in iothub.request("GET", f"/devices/{device_id}/modules")
        ):
            iothub.request("PUT", f"/devices/{device_id}/modules/{module_id}", {})
        kind = IoTHubModuleClient if module_id else IoTHubDeviceClient
        text = iothub.device_connection_string(device_id, module_id)
        options.setdefault("connection_retry_interval", 1)
        client = kind.create_from_connection_string(text, **options)
        clients.append(client)
        client.connect()
        return client

    yield connect
    for client in clients:
        client.shutdown()


@pytest.fixture
def container(azurite: Azurite, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A container of the test's own, through the unmodified storage SDK."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60]
    with azurite.client() as service:
        made = service.create_container(name)
        yield made
        service.delete_container(name)
