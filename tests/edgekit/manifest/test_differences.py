from hypothesis import given
from hypothesis import strategies as st

from edgekit.manifest import Change, apply_changes, diff, readable

keys = st.sampled_from(["a", "b", "c", "d"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from([0.0, 1.0, "", "x"]),
    lambda inner: st.dictionaries(keys, inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)


@given(values, values)
def test_applying_the_difference_gives_the_other_side(before, after):
    # repr tells 1 from 1.0 and True, which == does not; keys may come in another order
    assert _exactly(apply_changes(before, diff(before, after))) == _exactly(after)


@given(values)
def test_nothing_differs_from_itself(value):
    assert diff(value, value) == []


@given(values, values)
def test_the_way_back_has_as_many_changes(before, after):
    assert len(diff(before, after)) == len(diff(after, before))


def test_changes_name_their_place():
    before = {"modules": {"scorer": {"image": "a"}, "old": 1}}
    after = {"modules": {"scorer": {"image": "b"}, "new": 2}}
    assert diff(before, after) == [
        Change("added", ("modules", "new"), None, 2),
        Change("removed", ("modules", "old"), 1, None),
        Change("changed", ("modules", "scorer", "image"), "a", "b"),
    ]
    assert diff(before, after)[2].where == "modules.scorer.image"


def test_create_options_are_compared_as_objects():
    one = {"settings": {"createOptions": '{"Cmd": [', "createOptions01": '"a"]}'}}
    other = {"settings": {"createOptions": '{"Cmd":["a"]}'}}
    assert readable(one) == {"settings": {"createOptions": {"Cmd": ["a"]}}}
    assert diff(readable(one), readable(other)) == []


def test_create_options_that_are_no_json_stay_as_they_are():
    assert readable({"createOptions": "{"}) == {"createOptions": "{"}


def _exactly(value):
    if isinstance(value, dict):
        return {key: _exactly(value[key]) for key in sorted(value)}
    return [_exactly(item) for item in value] if isinstance(value, list) else repr(value)
