import pytest

from edgekit.manifest.limits import DESIRED_BYTES, twin_size, violations


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"key": "four"}, 7),
        ({"n": 1, "f": 2.5}, 1 + 8 + 1 + 8),
        ({"b": True}, 1 + 4),
        ({"gone": None}, 4),
        ({"s": "\u00e9"}, 1 + 2),
        ({"s": "a\tb\u0085c"}, 1 + 3),
        ({"list": [1, "ab", True]}, 4 + 8 + 2 + 4),
        ({"deep": {"er": {"k": ""}}}, 4 + 2 + 1),
        ({"$version": 7, "a": 1}, 1 + 8),
    ],
)
def test_sizes_are_counted_as_the_hub_counts_them(value, size):
    assert twin_size(value) == size


def test_the_last_byte_fits_and_one_more_does_not():
    strings = {f"k{number}": "x" * 4094 for number in range(8)}
    assert twin_size(strings) == DESIRED_BYTES
    assert list(violations(strings)) == []
    assert list(violations({**strings, "y": ""})) == [((), "32769 bytes, the hub takes 32768")]


def nested(levels):
    return {"a": nested(levels - 1)} if levels > 1 else {"a": 1}


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        ({"a.b": 1}, ("a.b",), "a key holds none of"),
        ({"a b": 1}, ("a b",), "a key holds none of"),
        ({"": 1}, ("",), "a key holds none of"),
        ({"x": {"$y": 1}}, ("x", "$y"), "a key holds none of"),
        ({"k" * 1025: 1}, (), "takes 1025 bytes"),
        ({"s": "x" * 4097}, ("s",), "a string of 4097 bytes"),
        ({"n": 2**52}, ("n",), "is outside -2^52..2^52-1"),
        ({"n": -(2**52) - 1}, ("n",), "is outside -2^52..2^52-1"),
        ({"n": float("inf")}, ("n",), "is no JSON number"),
        ({"l": [1, None]}, ("l", "1"), "a list holds no null"),
        (nested(11), ("a",) * 10, "nested deeper than 10"),
    ],
)
def test_what_the_hub_refuses_is_found_where_it_stands(value, path, message):
    ((where, what),) = violations(value)
    assert (where, message in what) == (path, True), what


def test_what_is_just_allowed_is_not_found():
    allowed = {"n": 2**52 - 1, "m": -(2**52), "s": "x" * 4096, "k" * 1024: None, **nested(10)}
    assert list(violations(allowed)) == []
