import itertools

from hypothesis import given
from hypothesis import strategies as st

from edgekit.manifest import Layer, is_layered, merge

ROOT = "properties.desired"
names = st.sampled_from(["a", "b", "c"])
values = st.recursive(
    st.integers(0, 3), lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=5
)
objects = st.dictionaries(names, values, max_size=3)
whole = st.fixed_dictionaries(
    {"$edgeAgent": st.fixed_dictionaries({ROOT: objects})},
    optional={"$edgeHub": st.fixed_dictionaries({ROOT: objects})},
)
layered = st.dictionaries(
    st.sampled_from(["$edgeAgent", "$edgeHub", "scorer"]),
    st.dictionaries(names.map(lambda name: f"{ROOT}.modules.{name}"), values, max_size=2),
    max_size=3,
)


def layers(contents, start=0):
    return [
        Layer(f"c{position}", start + position, "2026-01-01", {"modulesContent": content})
        for position, content in enumerate(contents)
    ]


@given(st.lists(whole | layered, max_size=4), st.randoms())
def test_the_order_in_which_layers_are_given_does_not_matter(contents, random):
    ranked = layers(contents)
    shuffled = random.sample(ranked, len(ranked))
    assert merge(shuffled) == merge(ranked)


@given(whole, st.lists(layered, max_size=3))
def test_a_layer_twice_is_a_layer_once(bottom, tops):
    ranked = layers([bottom, *tops])
    assert merge(itertools.chain(ranked, ranked)) == merge(ranked)


@given(st.lists(whole | layered, max_size=3), whole)
def test_a_whole_deployment_hides_all_below_it(below, top):
    assert merge(layers([*below, top])) == merge(layers([top]))


@given(whole, layered)
def test_what_the_highest_layer_names_stands_as_it_says(bottom, top):
    merged = merge(layers([bottom, top]))
    for module, sections in top.items():
        for path, value in sections.items():
            assert merged[module]["modules"][path.rpartition(".")[2]] == value


@given(st.lists(layered, max_size=3))
def test_layers_over_nothing_are_nothing(contents):
    assert merge(layers(contents)) == {}


def test_a_layer_adds_a_module_and_a_route_and_lets_the_others_be():
    bottom = {
        "$edgeAgent": {ROOT: {"schemaVersion": "1.1", "modules": {"scorer": {"version": "1"}}}},
        "$edgeHub": {ROOT: {"routes": {"up": "A"}}},
    }
    top = {
        "$edgeAgent": {f"{ROOT}.modules.probe": {"version": "2"}},
        "$edgeHub": {f"{ROOT}.routes.probe": "B"},
        "probe": {f"{ROOT}.section": {"every": 5}},
    }
    assert merge(layers([bottom, top])) == {
        "$edgeAgent": {
            "schemaVersion": "1.1",
            "modules": {"scorer": {"version": "1"}, "probe": {"version": "2"}},
        },
        "$edgeHub": {"routes": {"up": "A", "probe": "B"}},
        "probe": {"section": {"every": 5}},
    }
    assert (is_layered({"modulesContent": bottom}), is_layered({"modulesContent": top})) == (
        False,
        True,
    )


def test_among_equals_the_newest_wins():
    older = Layer("z", 5, "2026-01-01", {"modulesContent": {"$edgeAgent": {ROOT: {"v": 1}}}})
    newer = Layer("a", 5, "2026-01-02", {"modulesContent": {"$edgeAgent": {ROOT: {"v": 2}}}})
    assert merge([newer, older]) == {"$edgeAgent": {"v": 2}}


def test_merging_does_not_change_what_went_in():
    content = {"$edgeAgent": {ROOT: {"modules": {}}}}
    top = {"$edgeAgent": {f"{ROOT}.modules.x": {}}}
    merge(layers([content, top]))
    assert content == {"$edgeAgent": {ROOT: {"modules": {}}}}
