import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import RegistryError
from edgekit.registry import ModelRef, TensorSpec
from edgekit.registry.records import ModelFile, check_labels

names = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,30}[a-z0-9])?", fullmatch=True)
aliases = st.from_regex(r"[a-z]([a-z0-9._-]{0,30}[a-z0-9])?", fullmatch=True)
refs = st.one_of(
    st.builds(ModelRef, names, st.none() | st.integers(1, 2**31 - 1)),
    st.builds(ModelRef, names, alias=aliases.filter(lambda alias: alias != "latest")),
)


@given(refs)
def test_what_is_written_parses_to_the_same(ref: ModelRef) -> None:
    assert ModelRef.parse(str(ref)) == ref


@given(st.text(string.printable))
def test_any_text_is_a_reference_or_a_clean_error(text: str) -> None:
    refused = ""
    try:
        parsed = str(ModelRef.parse(text))
    except RegistryError as error:
        refused = str(error)

    assert "\n" not in refused
    assert refused or parsed == text.removesuffix(":latest")


def test_latest_is_the_name_alone() -> None:
    assert ModelRef.parse("digits:latest") == ModelRef.parse("digits") == ModelRef("digits")


@pytest.mark.parametrize(
    "text", ["", "Digits", "-a", "a-", "a:", "a:0", "a:01", "a:-1", "a:99999999999", "a b", "a\n"]
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(RegistryError):
        ModelRef.parse(text)


def test_a_tensor_reads_as_people_write_it() -> None:
    assert str(TensorSpec("image", "float32", ("N", 1, None))) == "image float32 [N, 1, ?]"


def test_labels_are_sorted() -> None:
    assert list(check_labels("tag", {"b": "2", "a/x": ""})) == ["a/x", "b"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"": "x"}, "no name for a tag"),
        ({"a b": "x"}, "no name for a tag"),
        ({"a" * 129: "x"}, "no name for a tag"),
        ({"a": "two\nlines"}, "value of tag a"),
        ({"a": "x" * 4097}, "value of tag a"),
    ],
)
def test_labels_that_are_not_well_formed_are_refused(labels: dict[str, str], message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        check_labels("tag", labels)


@pytest.mark.parametrize(
    "path", ["", ".", "..", "../m", "/m", "a//b", "a/./b", "a/", "a\nb", "a\\b", "x" * 256]
)
def test_what_is_no_path_in_a_folder_is_refused(path: str) -> None:
    with pytest.raises(RegistryError, match="no path of a file"):
        ModelFile(path, "weights", "sha256:" + "0" * 64, 1)
