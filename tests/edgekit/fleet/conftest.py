"""A hub with three edge devices, for everything that plans, applies or watches."""

from collections.abc import Iterator

import pytest

from edgekit.fleet import AzureHub
from edgekit_sim.iothub import HubHandle, start_hub


@pytest.fixture(scope="module")
def simulator() -> Iterator[HubHandle]:
    with start_hub() as hub, pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", hub.ca_file)
        environment.setenv("REQUESTS_CA_BUNDLE", hub.ca_file)
        yield hub


@pytest.fixture
def hub(simulator: HubHandle) -> Iterator[AzureHub]:
    """A connection to a hub that has three edge devices, a plain one and no configuration."""
    port = AzureHub(simulator.service_connection_string)
    for device, edge in (("press-1", True), ("press-2", True), ("saw-1", True), ("lamp-1", False)):
        simulator.create_device(device, edge=edge)
        line = "a" if device.startswith("press") else "b"
        port.patch_tags(device, {"site": "berlin", "line": line})
    yield port
    for item in simulator.request("GET", "/configurations"):
        simulator.request("DELETE", f"/configurations/{item['id']}")
    for device in simulator.request("GET", "/devices"):
        simulator.request("DELETE", f"/devices/{device['deviceId']}")
