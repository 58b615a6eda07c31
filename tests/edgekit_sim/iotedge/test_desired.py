"""Desired properties of $edgeAgent, and the plan that follows from them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_sim.iotedge.desired import Desired, read_desired
from edgekit_sim.iotedge.errors import DeploymentRefused
from edgekit_sim.iotedge.supervisor import plan
from edgekit_sim.iotedge.twin import merge_patch, without_nulls


def properties(**modules: dict[str, Any]) -> dict[str, Any]:
    return {
        "$version": 4,
        "schemaVersion": "1.1",
        "runtime": {"type": "docker"},
        "systemModules": {"edgeAgent": {}, "edgeHub": {}},
        "modules": {
            name: {"settings": {"image": "r.example/m:1"}, **module}
            for name, module in modules.items()
        },
    }


def test_reads_a_deployment_in_start_up_order() -> None:
    desired = read_desired(
        properties(
            late={},
            second={"startupOrder": 2, "status": "stopped", "restartPolicy": "on-failure"},
            first={"startupOrder": 1, "env": {"A": {"value": "x"}, "B": {"value": 3}}},
        )
    )
    assert [module.name for module in desired.modules] == ["first", "second", "late"]
    assert desired.version == 4
    assert desired.modules[0].environment == {"A": "x", "B": "3"}
    assert (desired.modules[1].status, desired.modules[1].restart_policy) == (
        "stopped",
        "on-failure",
    )


def test_nothing_is_deployed_before_there_is_a_schema() -> None:
    assert read_desired({"$version": 1}) == Desired(1)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=3000), max_size=3))
def test_create_options_survive_being_cut(options: dict[str, str]) -> None:
    text = json.dumps(options)
    chunks = [text[start : start + 512] for start in range(0, len(text), 512)]
    names = ["createOptions", *(f"createOptions{n:02}" for n in range(1, 100))]
    settings = {"image": "i", **dict(zip(names, chunks, strict=False))}
    (module,) = read_desired(properties(m={"settings": settings})).modules
    assert module.create_options == options


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"schemaVersion": "2.0"}, 412),
        ({"modules": []}, 400),
        ({"modules": {"m": {}}}, 400),
        ({"modules": {"m": {"settings": {"image": "i", "createOptions": "{"}}}}, 400),
        ({"modules": {"m": {"settings": {"image": "i", "createOptions": "[]"}}}}, 400),
        ({"modules": {"m": {"settings": {"image": "i", "createOptions02": "{}"}}}}, 400),
        ({"modules": {"m": {"settings": {"image": "i"}, "startupOrder": -1}}}, 400),
        ({"modules": {"m": {"settings": {"image": "i"}, "status": "paused"}}}, 400),
        ({"modules": {"m": {"settings": {"image": "i"}, "env": {"A": {}}}}}, 400),
    ],
)
def test_refuses_what_does_not_read(change: dict[str, Any], code: int) -> None:
    with pytest.raises(DeploymentRefused) as caught:
        read_desired({**properties(), **change})
    assert caught.value.code == code


def test_the_plan_touches_only_what_changed() -> None:
    before = read_desired(properties(same={}, policy={}, image={}, gone={}))
    current = {module.name: module for module in before.modules}
    after = read_desired(
        properties(
            same={},
            policy={"restartPolicy": "never"},
            image={"settings": {"image": "r.example/m:2"}},
            new={"startupOrder": 0},
        )
    )
    steps = plan(current, after)
    assert sorted(steps.remove) == ["gone", "image"]
    assert [module.name for module in steps.start] == ["new", "image"]
    assert sorted(module.name for module in steps.keep) == ["policy", "same"]


values = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2, word for word."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


@given(documents, documents)
def test_a_patch_makes_the_new_of_the_old(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merged(old, merge_patch(old, new)) == new
    assert merge_patch(new, new) == {}


def test_a_twin_holds_no_null() -> None:
    assert without_nulls({"$version": 1, "a": None, "b": {"c": None, "d": 0}}) == {"b": {"d": 0}}
