"""The service side through the unmodified azure-iot-hub: registry, twins, queries, policies."""

from typing import Any

import pytest
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import QuerySpecification, Twin, TwinProperties
from msrest.exceptions import HttpOperationError

from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.handle import HubHandle


def status(error: pytest.ExceptionInfo[HttpOperationError]) -> tuple[int, str]:
    response = error.value.response
    return response.status_code, response.headers["iothub-errorcode"]


def test_a_device_from_creation_to_deletion(registry: Any) -> None:
    key, other = tokens.new_key(), tokens.new_key()
    made = registry.create_device_with_sas("life", key, other, "enabled")
    assert made.authentication.symmetric_key.primary_key == key
    updated = registry.update_device_with_sas(
        "life", made.etag, other, key, "disabled", status_reason="in the shop"
    )
    assert (updated.status, updated.status_reason) == ("disabled", "in the shop")
    assert updated.generation_id == made.generation_id
    registry.delete_device("life", updated.etag)
    with pytest.raises(HttpOperationError) as error:
        registry.get_device("life")
    assert status(error) == (404, "DeviceNotFound")


def test_keys_are_generated(registry: Any) -> None:
    made = registry.create_device_with_sas("keys", None, None, "enabled")
    keys = made.authentication.symmetric_key
    assert tokens.is_key(keys.primary_key)
    assert keys.primary_key != keys.secondary_key


def test_a_device_that_exists_is_not_created_again(registry: Any) -> None:
    registry.create_device_with_sas("exists", None, None, "enabled")
    with pytest.raises(HttpOperationError) as error:
        registry.create_device_with_sas("exists", None, None, "enabled")
    assert status(error) == (409, "DeviceAlreadyExists")


def test_a_stale_etag_changes_nothing(registry: Any) -> None:
    made = registry.create_device_with_sas("stale", None, None, "enabled")
    registry.update_device_with_sas("stale", made.etag, None, None, "disabled")
    with pytest.raises(HttpOperationError) as error:
        registry.update_device_with_sas("stale", made.etag, None, None, "enabled")
    assert status(error) == (412, "PreconditionFailed")
    assert registry.get_device("stale").status == "disabled"
    twin = registry.get_twin("stale")
    registry.update_twin("stale", Twin(tags={"a": 1}), twin.etag)
    with pytest.raises(HttpOperationError) as error:
        registry.update_twin("stale", Twin(tags={"a": 2}), twin.etag)
    assert status(error) == (412, "PreconditionFailed")


def test_an_edge_device_has_its_two_modules(registry: Any) -> None:
    made = registry.create_device_with_sas("edge", None, None, "enabled", iot_edge=True)
    assert made.capabilities.iot_edge
    assert made.device_scope.startswith("ms-azure-iot-edge://edge-")
    assert {m.module_id for m in registry.get_modules("edge")} == {"$edgeAgent", "$edgeHub"}


def test_modules(registry: Any) -> None:
    registry.create_device_with_sas("mods", None, None, "enabled")
    made = registry.create_module_with_sas("mods", "m1", "me", None, None)
    assert registry.get_module("mods", "m1").managed_by == "me"
    registry.update_module_with_sas("mods", "m1", "you", made.etag, None, None)
    registry.update_module_twin("mods", "m1", Twin(properties=TwinProperties(desired={"x": 1})))
    assert registry.get_module_twin("mods", "m1").properties.desired["x"] == 1
    registry.delete_module("mods", "m1")
    assert registry.get_modules("mods") == []


def test_twin_patch_and_replace(registry: Any) -> None:
    registry.create_device_with_sas("twin", None, None, "enabled")
    patch = Twin(tags={"site": {"hall": 3}}, properties=TwinProperties(desired={"a": 1, "b": {}}))
    first = registry.update_twin("twin", patch)
    assert (first.tags, first.version) == ({"site": {"hall": 3}}, 2)
    assert first.properties.desired["$version"] == 2
    replaced = registry.replace_twin(
        "twin", Twin(tags={}, properties=TwinProperties(desired={"c": 1})), first.etag
    )
    desired = replaced.properties.desired
    assert {k: v for k, v in desired.items() if k[0] != "$"} == {"c": 1}
    assert desired["$metadata"].keys() == {"$lastUpdated", "$lastUpdatedVersion", "c"}


@pytest.mark.parametrize(
    ("desired", "expected"),
    [
        ({"a.b": 1}, 400),
        ({"$a": 1}, 400),
        ({"a": [1, None]}, 400),
        ({"a": 2**53}, 400),
        ({"a": "x" * 4097}, 400),
        ({f"k{n}": "x" * 4000 for n in range(9)}, 413),
    ],
)
def test_twins_keep_the_limits(registry: Any, desired: Any, expected: int) -> None:
    if "limits" not in {device.device_id for device in registry.get_devices()}:
        registry.create_device_with_sas("limits", None, None, "enabled")
    with pytest.raises(HttpOperationError) as error:
        registry.update_twin("limits", Twin(properties=TwinProperties(desired=desired)))
    assert error.value.response.status_code == expected
    assert registry.get_twin("limits").properties.desired["$version"] == 1


def ask(registry: Any, text: str) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        answer = registry.query_iot_hub(QuerySpecification(query=text), token, 3)
        found += answer.items
        token = answer.continuation_token
        if token is None:
            return found


def test_queries_in_pages(registry: Any) -> None:
    for number in range(7):
        registry.create_device_with_sas(f"q{number}", None, None, "enabled")
        registry.update_twin(f"q{number}", Twin(tags={"hall": number % 2, "row": number}))
    found = ask(registry, "SELECT * FROM devices WHERE tags.hall = 1 AND NOT tags.row IN [1]")
    assert [twin.device_id for twin in found] == ["q3", "q5"]
    assert len(ask(registry, "SELECT * FROM devices WHERE is_defined(tags.hall)")) == 7


def test_a_query_that_does_not_parse(registry: Any) -> None:
    with pytest.raises(HttpOperationError) as error:
        ask(registry, "SELECT * FROM devices WHERE tags.hall = ")
    assert status(error) == (400, "QueryInvalid")


def test_bulk(registry: Any, iothub: HubHandle) -> None:
    entries = [{"id": f"b{n}", "importMode": "create"} for n in range(3)]
    assert iothub.request("POST", "/devices", entries)["isSuccessful"]
    assert registry.get_device_registry_statistics().total_device_count >= 3
    entries = [{"id": "b0", "importMode": "delete"}, {"id": "b1", "importMode": "delete"}]
    assert iothub.request("POST", "/devices", entries)["isSuccessful"]
    assert registry.get_device("b2").device_id == "b2"


def test_a_wrong_service_key_is_refused(iothub: HubHandle) -> None:
    text, _ = iothub.service_connection_string.split(";SharedAccessKey=")
    wrong = IoTHubRegistryManager.from_connection_string(
        f"{text};SharedAccessKey={tokens.new_key()}"
    )
    with pytest.raises(HttpOperationError) as error:
        wrong.get_devices()
    assert status(error) == (401, "IotHubUnauthorizedAccess")


def test_an_expired_service_token_is_refused(iothub: HubHandle) -> None:
    import requests

    fields = dict(p.split("=", 1) for p in iothub.service_connection_string.split(";"))
    token = tokens.sign(fields["HostName"], fields["SharedAccessKey"], 1_000_000_000, "iothubowner")
    response = requests.get(
        f"https://{fields['HostName']}/devices",
        headers={"Authorization": token},
        verify=iothub.ca_file,
        timeout=10,
    )
    assert response.status_code == 401
    assert "expired" in response.json()["Message"]
