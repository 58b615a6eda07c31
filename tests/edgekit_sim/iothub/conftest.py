"""Clients of the hub under test, as users write them."""

import gc
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient
from azure.iot.hub import IoTHubConfigurationManager, IoTHubRegistryManager

from edgekit_sim.iothub.handle import HubHandle
from edgekit_sim.iothub.pytest_plugin import iothub as iothub  # a fixture, found by its name


def eventually(find: Callable[[], Any], seconds: float = 15.0) -> Any:
    """What `find` returns once that is true; its last value when it never is."""
    end = time.monotonic() + seconds
    while not (found := find()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


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
    clients.clear()
    gc.collect()  # paho leaves its sockets to the collector: let that be here, not at the end
