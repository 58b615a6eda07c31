"""Twins: the laws of merging, sizes as the service counts them."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.twins import Section, Twin, check_section, merge, set_path, size

keys = st.text("abc", min_size=1, max_size=2)
leaves = st.integers(0, 5) | st.text("xy", max_size=2) | st.booleans()
values = st.recursive(leaves, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=8)
documents = st.dictionaries(keys, values, max_size=3)
patches = st.dictionaries(keys, values | st.none(), max_size=3)


@given(documents, patches)
def test_a_patch_applied_twice_is_applied_once(document: Any, patch: Any) -> None:
    once = merge(document, patch)
    assert merge(once, patch) == once


@given(documents, patches)
def test_merging_alters_neither(document: Any, patch: Any) -> None:
    before = copy.deepcopy((document, patch))
    merge(document, patch)
    assert (document, patch) == before


@given(documents, patches)
def test_metadata_has_the_shape_of_the_value(document: Any, patch: Any) -> None:
    section = Section()
    section.replace(document)
    section.patch(patch)

    def shape(value: Any) -> Any:
        inner = value.items() if isinstance(value, dict) else ()
        return {key: shape(item) for key, item in inner if key != "$lastUpdated"}

    assert shape(section.metadata) == shape(section.value)
    assert section.version == 3


@given(documents)
def test_a_twin_survives_the_store(document: Any) -> None:
    twin = Twin()
    twin.tags = document
    twin.desired.patch(document)
    again = Twin.from_json(twin.to_json())
    assert again.to_json() == twin.to_json()


def test_sizes_are_counted_as_the_service_does() -> None:
    assert size({"ab": 1, "c": True, "d": "é\n", "e": [1.5, None]}) == 2 + 8 + 1 + 4 + 1 + 2 + 1 + 8


def test_set_path_replaces_the_whole_value() -> None:
    assert set_path({"a": {"b": {"x": 1}, "c": 2}}, ["a", "b"], {"y": 1}) == {
        "a": {"b": {"y": 1}, "c": 2}
    }


def nested(depth: int) -> Any:
    return {"k": nested(depth - 1)} if depth else 1


def test_ten_levels_and_no_more() -> None:
    assert check_section(nested(10), "tags") == nested(10)
    with pytest.raises(HubFault):
        check_section(nested(11), "tags")
