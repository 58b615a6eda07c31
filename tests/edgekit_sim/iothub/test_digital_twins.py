"""Plug and play through the unmodified DigitalTwinClient."""

from typing import Any

import pytest
from azure.iot.device import MethodResponse
from azure.iot.hub import DigitalTwinClient

from edgekit_sim.iothub.handle import HubHandle

MODEL = "dtmi:com:example:Scorer;1"


@pytest.fixture
def twins(iothub: HubHandle) -> DigitalTwinClient:
    return DigitalTwinClient.from_connection_string(iothub.service_connection_string)


def test_model_and_properties(connect: Any, twins: Any) -> None:
    client = connect("pnp", product_info=MODEL)
    client.patch_twin_reported_properties({"rate": 5})
    patch = [{"op": "add", "path": "/rate", "value": 7}]
    twins.update_digital_twin("pnp", patch)
    found = twins.get_digital_twin("pnp")
    assert found["$metadata"]["$model"] == MODEL
    assert found["rate"] == 5
    assert found["$metadata"]["rate"] == {"desiredValue": 7, "desiredVersion": 2}


def test_commands(connect: Any, twins: Any) -> None:
    client = connect("pnp-2", product_info=MODEL)
    names = []

    def answer(request: Any) -> None:
        names.append(request.name)
        response = MethodResponse.create_from_method_request(request, 200, request.payload)
        client.send_method_response(response)

    client.on_method_request_received = answer
    assert twins.invoke_command("pnp-2", "reset", {"a": 1}) == {"a": 1}
    assert twins.invoke_component_command("pnp-2", "lamp", "on", [1]) == [1]
    assert names == ["reset", "lamp*on"]
