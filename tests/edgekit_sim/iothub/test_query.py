"""The query language: grammar, undefined values, functions, groups and order."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.query import compile_condition, parse_condition, parse_query, run


def device(name: str, tags: Any = None, desired: Any = None, reported: Any = None) -> Identity:
    identity = Identity(name)
    identity.twin.tags = tags or {}
    identity.twin.desired.value = desired or {}
    identity.twin.reported.value = reported or {}
    return identity


FLEET = [
    device("a", {"hall": 1, "env": "prod", "deep": {"x-y": [5, 6]}}, reported={"t": 20.5}),
    device("b", {"hall": 2, "env": "prod"}, reported={"t": 31}),
    device("c", {"hall": 2, "env": "test", "note": None}, reported={"t": "hot"}),
    device("d"),
]


def names(condition: str) -> str:
    _, node = parse_condition(condition)
    matches = compile_condition(node)
    return "".join(identity.device_id for identity in FLEET if matches(identity))


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("*", "abcd"),
        ("deviceId = 'a'", "a"),
        ("tags.hall = 2", "bc"),
        ("tags.hall != 2", "a"),
        ("tags.hall <> 2", "a"),
        ("NOT tags.hall = 2", "a"),
        ("NOT is_defined(tags.hall)", "d"),
        ("tags.env = 'prod' AND tags.hall > 1", "b"),
        ("tags.env = 'test' OR tags.env = 'prod' AND tags.hall = 1", "ac"),
        ("(tags.env = 'test' OR tags.env = 'prod') AND tags.hall = 2", "bc"),
        ("tags.hall IN [1, 3]", "a"),
        ("tags.hall NIN [1, 3]", "bc"),
        ("tags.hall NOT IN [1]", "bc"),
        ("properties.reported.t >= 20.5", "ab"),
        ("properties.reported.t = 'hot'", "c"),
        ("tags.deep.[[x-y]][1] = 6", "a"),
        ("tags.hall * 10 + 1 = 21", "bc"),
        ("startswith(tags.env, 'pr')", "ab"),
        ("is_string(properties.reported.t)", "c"),
        ("length(deviceId) = 1", "abcd"),
        ("properties.desired.$version = 1", "abcd"),
        ("TAGS.hall = 1 and 1 < 2", "a"),
        ("tags.env = 'it''s'", ""),
        ("capabilities.iotEdge = true", ""),
    ],
)
def test_conditions(condition: str, expected: str) -> None:
    assert names(condition) == expected


def test_columns_order_and_top() -> None:
    query = parse_query(
        "SELECT TOP 2 deviceId AS id, tags.hall FROM devices ORDER BY tags.hall DESC"
    )
    assert run(query, FLEET) == [{"id": "b", "hall": 2}, {"id": "c", "hall": 2}]


def test_groups_and_aggregates() -> None:
    query = parse_query(
        "SELECT tags.env, COUNT() AS n, AVG(tags.hall) AS h FROM devices GROUP BY tags.env"
    )
    assert run(query, FLEET) == [
        {"env": "prod", "n": 2, "h": 1.5},
        {"env": "test", "n": 1, "h": 2.0},
        {"n": 1},
    ]
    count = parse_query("SELECT COUNT() AS numberOfDevices FROM devices WHERE tags.hall = 2")
    assert run(count, FLEET) == [{"numberOfDevices": 2}]


def test_modules_have_a_source_of_their_own() -> None:
    source, _ = parse_condition("FROM devices.modules WHERE tags.a = 1")
    assert source == "devices.modules"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SELECT",
        "SELECT * FROM elsewhere",
        "SELECT * FROM devices WHERE",
        "SELECT * FROM devices WHERE tags.a =",
        "SELECT * FROM devices WHERE tags.a = 'x",
        "SELECT * FROM devices WHERE (tags.a = 1",
        "SELECT * FROM devices extra",
        "SELECT * FROM devices WHERE nothing(1) = 1",
        "SELECT * FROM devices WHERE " + "(" * 500,
        "SELECT * FROM devices WHERE " + "NOT " * 5000 + "true",
    ],
)
def test_what_is_no_query(text: str) -> None:
    with pytest.raises(HubFault) as error:
        run(parse_query(text), FLEET)
    assert (error.value.status, error.value.code) == (400, "QueryInvalid")


def refusal(text: str) -> str:
    try:
        run(parse_query(text), FLEET)
    except HubFault as fault:
        return fault.code
    return ""


@given(st.text(max_size=60))
def test_any_text_is_a_query_or_is_refused(text: str) -> None:
    assert refusal(text) in ("", "QueryInvalid")
    assert refusal("SELECT * FROM devices WHERE " + text) in ("", "QueryInvalid")
