import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import ManifestError
from edgekit.manifest.options import CHUNK, join_options, lost_chunks, split_options

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=20), json_values, max_size=8))
def test_what_is_split_joins_to_the_same_options(options):
    pieces = split_options(options)
    assert join_options({"image": "x", **pieces}) == options
    assert all(len(piece) <= CHUNK for piece in pieces.values())
    assert lost_chunks(pieces) == []


def test_names_count_from_01_without_a_gap():
    pieces = split_options({"Cmd": ["x" * 1100]})
    assert list(pieces) == ["createOptions", "createOptions01", "createOptions02"]
    assert [len(piece) for piece in pieces.values()] == [
        512,
        512,
        len('{"Cmd":[""]}') + 1100 - 1024,
    ]


def test_no_options_are_an_empty_object():
    assert split_options({}) == {"createOptions": "{}"}
    assert join_options({}) == {}


def test_a_gap_loses_what_stands_behind_it():
    pieces = split_options({"Cmd": ["x" * 1100]})
    del pieces["createOptions01"]
    assert lost_chunks(pieces) == ["createOptions02"]
    with pytest.raises(ManifestError, match="not JSON"):
        join_options(pieces)


def test_the_hundredth_piece_is_the_last():
    overhead = len('{"a":""}')
    assert len(split_options({"a": "x" * (51200 - overhead)})) == 100
    with pytest.raises(ManifestError, match="51201 characters"):
        split_options({"a": "x" * (51201 - overhead)})
