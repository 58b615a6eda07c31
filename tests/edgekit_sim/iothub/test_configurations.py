"""Automatic deployments and configurations through the unmodified azure-iot-hub."""

from typing import Any

import pytest
from azure.iot.hub.models import Configuration, ConfigurationContent, ConfigurationMetrics, Twin
from msrest.exceptions import HttpOperationError


def edge(name: str, condition: str, priority: int, modules: Any, **more: Any) -> Configuration:
    return Configuration(
        id=name,
        target_condition=condition,
        priority=priority,
        content=ConfigurationContent(modules_content=modules),
        **more,
    )


def base(image: str) -> dict[str, Any]:
    agent = {"schemaVersion": "1.1", "modules": {"scorer": {"settings": {"image": image}}}}
    return {
        "$edgeAgent": {"properties.desired": agent},
        "$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": {}}},
    }


def device(registry: Any, name: str, **tags: Any) -> None:
    registry.create_device_with_sas(name, None, None, "enabled", iot_edge=True)
    registry.update_twin(name, Twin(tags=tags))


def image(registry: Any, name: str) -> Any:
    desired = registry.get_module_twin(name, "$edgeAgent").properties.desired
    module = desired.get("modules", {}).get("scorer")
    return module and module["settings"]["image"]


def test_a_deployment_reaches_the_devices_it_targets(registry: Any, configurations: Any) -> None:
    device(registry, "c1", group="reach")
    device(registry, "c2", group="other")
    configurations.create_configuration(edge("reach", "tags.group='reach'", 10, base("a:1")))
    assert (image(registry, "c1"), image(registry, "c2")) == ("a:1", None)
    assert "scorer" in {m.module_id for m in registry.get_modules("c1")}
    registry.update_twin("c2", Twin(tags={"group": "reach"}))
    assert image(registry, "c2") == "a:1"
    results = configurations.get_configuration("reach").system_metrics.results
    assert results == {
        "targetedCount": 2,
        "appliedCount": 2,
        "reportedSuccessfulCount": 0,
        "reportedFailedCount": 0,
    }


def test_the_highest_priority_wins_and_the_next_follows(registry: Any, configurations: Any) -> None:
    device(registry, "p1", group="rank")
    configurations.create_configuration(edge("rank-low", "tags.group='rank'", 1, base("low:1")))
    configurations.create_configuration(edge("rank-high", "tags.group='rank'", 5, base("high:1")))
    assert image(registry, "p1") == "high:1"
    low = configurations.get_configuration("rank-low").system_metrics.results
    assert (low["targetedCount"], low["appliedCount"]) == (1, 0)
    configurations.delete_configuration("rank-high")
    assert image(registry, "p1") == "low:1"


def test_layers_are_laid_over_the_base(registry: Any, configurations: Any) -> None:
    device(registry, "l1", group="layer")
    configurations.create_configuration(edge("layer-base", "tags.group='layer'", 1, base("b:1")))
    layer = {"$edgeAgent": {"properties.desired.modules.extra": {"settings": {"image": "x:1"}}}}
    configurations.create_configuration(edge("layer-top", "tags.group='layer'", 2, layer))
    desired = registry.get_module_twin("l1", "$edgeAgent").properties.desired
    assert set(desired["modules"]) == {"scorer", "extra"}
    configurations.delete_configuration("layer-top")
    desired = registry.get_module_twin("l1", "$edgeAgent").properties.desired
    assert set(desired["modules"]) == {"scorer"}


def test_metrics_follow_what_the_agent_reports(
    registry: Any, configurations: Any, connect: Any
) -> None:
    device(registry, "m1", group="metric")
    query = "SELECT deviceId FROM devices.modules WHERE properties.reported.ok = true"
    metrics = ConfigurationMetrics(queries={"ok": query})
    configurations.create_configuration(
        edge("metric", "tags.group='metric'", 1, base("a:1"), metrics=metrics)
    )
    agent = connect("m1", "$edgeAgent")
    version = agent.get_twin()["desired"]["$version"]
    agent.patch_twin_reported_properties(
        {"lastDesiredVersion": version, "lastDesiredStatus": {"code": 200}, "ok": True}
    )
    found = configurations.get_configuration("metric")
    assert found.system_metrics.results["reportedSuccessfulCount"] == 1
    assert found.metrics.results == {"ok": 1}
    agent.patch_twin_reported_properties({"lastDesiredStatus": {"code": 406}})
    results = configurations.get_configuration("metric").system_metrics.results
    assert (results["reportedSuccessfulCount"], results["reportedFailedCount"]) == (0, 1)


def test_a_device_configuration_comes_and_goes(registry: Any, configurations: Any) -> None:
    registry.create_device_with_sas("d1", None, None, "enabled")
    registry.update_twin("d1", Twin(tags={"group": "plain"}))
    content = ConfigurationContent(device_content={"properties.desired.limits": {"rate": 5}})
    configurations.create_configuration(
        Configuration(id="plain", target_condition="tags.group='plain'", content=content)
    )
    assert registry.get_twin("d1").properties.desired["limits"] == {"rate": 5}
    configurations.delete_configuration("plain")
    assert "limits" not in registry.get_twin("d1").properties.desired


def test_apply_to_one_device(registry: Any, configurations: Any) -> None:
    device(registry, "one")
    content = ConfigurationContent(modules_content=base("once:1"))
    configurations.apply_configuration_on_edge_device("one", content)
    assert image(registry, "one") == "once:1"


def test_condition_and_priority_can_change_the_content_cannot(
    registry: Any, configurations: Any
) -> None:
    device(registry, "u1", group="update")
    made = configurations.create_configuration(
        edge("update", "tags.group='nobody'", 1, base("a:1"))
    )
    assert image(registry, "u1") is None
    made.target_condition = "tags.group='update'"
    made.content.modules_content = base("b:1")
    updated = configurations.update_configuration(made, made.etag)
    assert image(registry, "u1") == "a:1"
    with pytest.raises(HttpOperationError, match="Precondition"):
        configurations.update_configuration(updated, made.etag)


@pytest.mark.parametrize(
    ("condition", "modules"),
    [
        ("tags.group =", base("a:1")),
        ("FROM devices.modules WHERE tags.a = 1", base("a:1")),
        ("*", {}),
        ("*", {"$edgeAgent": {"desired": {}}}),
        ("*", {"$edgeAgent": {"properties.desired": {"a.b": 1}}}),
    ],
)
def test_what_is_no_configuration(configurations: Any, condition: str, modules: Any) -> None:
    with pytest.raises(HttpOperationError, match="Bad Request"):
        configurations.create_configuration(edge("bad", condition, 1, modules))
    with pytest.raises(HttpOperationError, match="Not Found"):
        configurations.get_configuration("bad")
