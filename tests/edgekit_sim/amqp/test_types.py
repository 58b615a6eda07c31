"""Values survive the way to bytes and back; hostile bytes are refused, nothing worse."""

import math
import struct
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_sim.amqp.decode import decode
from edgekit_sim.amqp.encode import encode
from edgekit_sim.amqp.errors import Malformed
from edgekit_sim.amqp.types import (
    Array,
    Byte,
    Char,
    Decimal,
    Described,
    Float,
    Int,
    Integer,
    Short,
    Symbol,
    Timestamp,
    Ubyte,
    Uint,
    Ulong,
    Ushort,
)

text = st.text(st.characters(exclude_categories=["Cs"]))
ascii_text = st.text(st.characters(max_codepoint=127))
integers = {
    kind: st.integers(kind.low, kind.high).map(kind)
    for kind in (Ubyte, Ushort, Uint, Ulong, Byte, Short, Int, Timestamp)
}
primitives: dict[type, st.SearchStrategy[Any]] = {
    type(None): st.none(),
    bool: st.booleans(),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False),
    Float: st.floats(width=32, allow_nan=False).map(Float),
    Char: st.characters(exclude_categories=["Cs"]).map(Char),
    str: text,
    Symbol: ascii_text.map(Symbol),
    bytes: st.binary(max_size=300),
    uuid.UUID: st.uuids(),
    **integers,
}
scalars = st.one_of(
    *primitives.values(), st.sampled_from([4, 8, 16]).map(lambda n: Decimal(b"7" * n))
)


def arrays(kind: type) -> st.SearchStrategy[Array]:
    items = st.lists(primitives[kind], max_size=5)
    descriptors = st.one_of(st.none(), ascii_text.map(Symbol), integers[Ulong])
    return st.builds(lambda i, d: Array(kind, tuple(i), d), items, descriptors)


values = st.recursive(
    scalars | st.sampled_from(sorted(primitives, key=str)).flatmap(arrays),
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.dictionaries(text | ascii_text.map(Symbol), inner, max_size=6),
        st.builds(Described, ascii_text.map(Symbol) | integers[Ulong], inner),
        st.lists(st.lists(inner, max_size=3), max_size=3).map(lambda x: Array(list, tuple(x))),
        st.lists(st.dictionaries(text, inner, max_size=2), max_size=3).map(
            lambda x: Array(dict, tuple(x))
        ),
    ),
    max_leaves=20,
)


def typed(value: Any) -> Any:
    """A value together with its type, all the way down: Uint(1), 1 and True are not the same."""
    if isinstance(value, list):
        return [typed(item) for item in value]
    if isinstance(value, dict):
        return [(typed(k), typed(v)) for k, v in value.items()]
    if isinstance(value, Described):
        return ("described", typed(value.descriptor), typed(value.value))
    if isinstance(value, Array):
        items = [typed(item) for item in value.items]
        return ("array", value.kind, items, typed(value.descriptor))
    return (type(value), value)


@given(values)
def test_a_value_is_read_as_it_was_written(value: Any) -> None:
    assert typed(decode(encode(value))) == typed(value)


@given(values)
def test_every_beginning_of_a_value_is_refused(value: Any) -> None:
    data = encode(value)
    for end in range(len(data)):
        with pytest.raises(Malformed):
            decode(data[:end])


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_refused(data: bytes) -> None:
    try:
        value = decode(data)
    except Malformed:
        return
    assert typed(decode(encode(value))) == typed(value) or "nan" in repr(value)


@given(values, st.data())
def test_a_value_with_a_wrong_byte_is_another_value_or_refused(value: Any, data: Any) -> None:
    broken = bytearray(encode(value))
    position = data.draw(st.integers(0, len(broken) - 1))
    broken[position] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(broken))
    except Malformed:
        return


@pytest.mark.parametrize(
    ("written", "value"),
    [
        # examples and forms of part 1, section 1.6 of the standard
        ("40", None),
        ("41", True),
        ("5601", True),
        ("5600", False),
        ("43", Uint(0)),
        ("5207", Uint(7)),
        ("7000000100", Uint(256)),
        ("44", Ulong(0)),
        ("5380", Ulong(128)),
        ("54ff", Int(-1)),
        ("55ff", -1),
        ("8100000000000000ff", 255),
        ("7300000041", Char("A")),
        ("8300000138fa4b1c00", Timestamp(0x138FA4B1C00)),
        ("a1024869", "Hi"),
        ("b1000000024869", "Hi"),
        ("a3025340", Symbol("S@")),
        ("a003010203", b"\1\2\3"),
        ("45", []),
        ("c003024142", [True, False]),
        ("c10502a1014141", {"A": True}),
        ("e00602a101410142", Array(str, ("A", "B"))),
        ("00a30375726ca10161", Described(Symbol("url"), "a")),
        ("e0080200a30163530102", Array(Ulong, (Ulong(1), Ulong(2)), Symbol("c"))),
    ],
)
def test_forms_of_the_standard(written: str, value: Any) -> None:
    assert typed(decode(bytes.fromhex(written))) == typed(value)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xd0" + (2**32 - 1).to_bytes(4) + (2**32 - 1).to_bytes(4), "runs over"),
        (b"\xd0" + (5).to_bytes(4) + (2**32 - 1).to_bytes(4) + b"\x40", "runs over"),
        (b"\xf0" + (5).to_bytes(4) + (2**32 - 1).to_bytes(4) + b"\x40", "without bytes"),
        (b"\xb0" + (2**32 - 1).to_bytes(4), "runs over"),
        (b"\x00" * 10_000, "descriptors|nested"),
        (b"\xc0\xff\x01" * 1000, "runs over|nested"),
        (b"\x00\x40" * 5000 + b"\x40", "descriptors|nested"),
        (b"\xc1\x02\x01\x40", "without a value"),
        (b"\xc1\x03\x02\x45\x40", "as a key"),
        (b"\x40\x40", "more bytes"),
        (b"\x56\x02", "neither true nor false"),
        (b"\xa1\x01\xff", "not utf-8"),
        (b"\xa3\x01\xff", "not ascii"),
        (b"\x73\xff\xff\xff\xff", "character"),
        (b"\xff", "format code 0xff"),
    ],
)
def test_hostile_values(data: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        decode(data)


def test_deep_nesting_is_refused_before_the_stack_ends() -> None:
    data = b"\x40"
    for _ in range(500):
        data = b"\xd0" + (len(data) + 4).to_bytes(4) + (1).to_bytes(4) + data
    with pytest.raises(Malformed, match="too deep"):
        decode(data)


@pytest.mark.parametrize("kind", list(integers))
def test_integers_keep_their_range(kind: type[Integer]) -> None:
    for number in (kind.low - 1, kind.high + 1):
        with pytest.raises(ValueError, match=str(number)):
            kind(number)


def test_what_amqp_has_no_type_for() -> None:
    with pytest.raises(TypeError, match="set"):
        encode({1, 2})
    with pytest.raises(ValueError, match="64 bits"):
        encode(2**63)
    with pytest.raises(ValueError, match="4, 8 or 16"):
        Decimal(b"123")


def test_not_a_number_stays_one() -> None:
    assert math.isnan(decode(encode(math.nan)))
    assert decode(b"\x72" + struct.pack(">f", 0.1)) == Float(
        struct.unpack(">f", struct.pack(">f", 0.1))[0]
    )
