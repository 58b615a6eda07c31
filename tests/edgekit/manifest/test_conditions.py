import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import ManifestError
from edgekit.manifest.conditions import check_condition, of_tags


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "deviceId = 'a'",
        "tags.site='berlin' AND (tags.line = \"a\" or NOT tags.old = true)",
        "tags.bucket < 10 AND tags.bucket >= 0.5",
        "tags.line IN ['a', 'b', 3]",
        "is_defined(tags.line) AND properties.reported.os.version <> null",
        "is_defined(tags.line) = false",
        "STARTSWITH(deviceId, 'press-')",
        "not is_defined(tags.x)",
        "tags.a NIN ['x'] OR tags.b NOT IN [1] OR tags.c IS NOT DEFINED OR tags.d is null",
        "tags.[[a-b]].c = 1",
        "tags.name = 'o\\'brien'",
    ],
)
def test_conditions_of_the_query_language_are_read(text):
    check_condition(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ends too early at character 1"),
        ("tags.a", "expected a comparison at character 7"),
        ("tags.a = ", "ends too early"),
        ("tags.a = 'b", '"\'b" at character 10'),
        ("tags.a = 'b' tags.c = 'd'", "'tags.c' is not expected at character 14"),
        ("tags.a == 'b'", "'=' is not expected"),
        ("(tags.a = 1", "expected '\\)' at character 12"),
        ("site = 'berlin'", "site is none of deviceId, tags.NAME"),
        ("tags.a-b = 1", "cannot read '-b = 1' at character 7"),
        ("tags.a NOT 1", "expected IN"),
        ("tags.a IS 1", "expected DEFINED or NULL"),
        ("tags.a IN []", "is not expected"),
        ("tags.a = 1 AND", "ends too early"),
        ("* AND tags.a = 1", "at character 1"),
        ("startswith(deviceId)", "expected ','"),
        ("(" * 200 + "tags.a = 1" + ")" * 200, "nested too deep"),
    ],
)
def test_a_wrong_condition_says_where(text, message):
    with pytest.raises(ManifestError, match=message):
        check_condition(text)


tags = st.dictionaries(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True),
    st.booleans() | st.integers() | st.text() | st.lists(st.text() | st.integers(), min_size=1),
    min_size=1,
    max_size=4,
)


@given(tags)
def test_a_condition_made_of_tags_always_reads(values):
    check_condition(of_tags(values))


@given(st.text(max_size=60))
def test_any_text_is_read_or_explained(text):
    # anything but the one error fails the test
    with contextlib.suppress(ManifestError):
        check_condition(text)


def test_tags_become_one_condition():
    assert of_tags({"site": "o'hara\\", "line": ["a", 2], "old": False}) == (
        "tags.line IN ['a', 2] AND tags.old = false AND tags.site = 'o\\'hara\\\\'"
    )
