"""Bytes from values, in the shortest form where the standard has several."""

import struct
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from edgekit_sim.amqp.types import (
    Array,
    Byte,
    Char,
    Decimal,
    Described,
    Float,
    Int,
    Short,
    Symbol,
    Timestamp,
    Ubyte,
    Uint,
    Ulong,
    Ushort,
)

_DECIMALS = {4: 0x74, 8: 0x84, 16: 0x94}


def encode(value: Any) -> bytes:
    """The bytes of a value.

    Raises:
        TypeError: the value is of a type that AMQP does not have.
        ValueError: an `int` of more than 64 bits, or a text that cannot be encoded.
    """
    write = _WRITERS.get(type(value))
    if write is None:
        raise TypeError(f"AMQP has no type for {type(value).__name__}")
    return write(value)


def _fixed(code: int, width: int, signed: bool) -> Callable[[int], bytes]:
    head = bytes((code,))
    return lambda value: head + value.to_bytes(width, signed=signed)


def _short_or_fixed(
    zero: int | None, short: int, code: int, width: int, signed: bool
) -> Callable[[int], bytes]:
    low, high = (-128, 127) if signed else (0, 255)

    def write(value: int) -> bytes:
        if value == 0 and zero is not None:
            return bytes((zero,))
        if low <= value <= high:
            return bytes((short,)) + value.to_bytes(1, signed=signed)
        try:
            return bytes((code,)) + value.to_bytes(width, signed=signed)
        except OverflowError as error:
            raise ValueError(f"{value} takes more than {8 * width} bits") from error

    return write


def _variable(short: int, data: bytes) -> bytes:
    if len(data) < 256:
        return bytes((short, len(data))) + data
    return bytes((short + 0x10,)) + len(data).to_bytes(4) + data


def _compound(short: int, items: Iterable[Any]) -> bytes:
    encoded = [encode(item) for item in items]
    body = b"".join(encoded)
    if len(body) < 255 and len(encoded) < 256:
        return bytes((short, len(body) + 1, len(encoded))) + body
    return bytes((short + 0x10,)) + (len(body) + 4).to_bytes(4) + len(encoded).to_bytes(4) + body


def _list(value: list[Any]) -> bytes:
    return _compound(0xC0, value) if value else b"\x45"


def _map(value: dict[Any, Any]) -> bytes:
    return _compound(0xC1, (part for pair in value.items() for part in pair))


def _array(value: Array) -> bytes:
    constructor, items = _array_items(value)
    body = constructor + items
    return b"\xf0" + (len(body) + 4).to_bytes(4) + len(value.items).to_bytes(4) + body


def _array_items(value: Array) -> tuple[bytes, bytes]:
    """The constructor that all items share, and the items without it."""
    described = b"" if value.descriptor is None else b"\x00" + encode(value.descriptor)
    if value.kind is Decimal:
        code = _DECIMALS[len(value.items[0].data) if value.items else 4]
        return described + bytes((code,)), b"".join(item.data for item in value.items)
    code, write = _ITEMS[value.kind]
    return described + bytes((code,)), b"".join(write(item) for item in value.items)


def _wide(write: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """The data of a value in its widest form: size and count of four bytes, without the code."""

    def item(value: Any) -> bytes:
        encoded = write(value)
        if encoded == b"\x45":
            return (4).to_bytes(4) + (0).to_bytes(4)
        if encoded[0] >= 0xD0:
            return encoded[1:]
        return (encoded[1] + 3).to_bytes(4) + encoded[2].to_bytes(4) + encoded[3:]

    return item


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(4) + data


def _described(value: Described) -> bytes:
    return b"\x00" + encode(value.descriptor) + encode(value.value)


_WRITERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"\x40",
    bool: lambda value: b"\x41" if value else b"\x42",
    Ubyte: _fixed(0x50, 1, False),
    Ushort: _fixed(0x60, 2, False),
    Uint: _short_or_fixed(0x43, 0x52, 0x70, 4, False),
    Ulong: _short_or_fixed(0x44, 0x53, 0x80, 8, False),
    Byte: _fixed(0x51, 1, True),
    Short: _fixed(0x61, 2, True),
    Int: _short_or_fixed(None, 0x54, 0x71, 4, True),
    int: _short_or_fixed(None, 0x55, 0x81, 8, True),
    Timestamp: _fixed(0x83, 8, True),
    Float: lambda value: b"\x72" + struct.pack(">f", value),
    float: lambda value: b"\x82" + struct.pack(">d", value),
    Decimal: lambda value: bytes((_DECIMALS[len(value.data)],)) + value.data,
    Char: lambda value: b"\x73" + value.encode("utf-32-be"),
    uuid.UUID: lambda value: b"\x98" + value.bytes,
    bytes: lambda value: _variable(0xA0, value),
    str: lambda value: _variable(0xA1, value.encode()),
    Symbol: lambda value: _variable(0xA3, value.encode("ascii")),
    list: _list,
    dict: _map,
    Array: _array,
    Described: _described,
}
# how an item of an array is written: its format code, and its data without it
_ITEMS: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    type(None): (0x40, lambda _: b""),
    bool: (0x56, lambda value: bytes((value,))),
    Ubyte: (0x50, lambda value: value.to_bytes(1)),
    Ushort: (0x60, lambda value: value.to_bytes(2)),
    Uint: (0x70, lambda value: value.to_bytes(4)),
    Ulong: (0x80, lambda value: value.to_bytes(8)),
    Byte: (0x51, lambda value: value.to_bytes(1, signed=True)),
    Short: (0x61, lambda value: value.to_bytes(2, signed=True)),
    Int: (0x71, lambda value: value.to_bytes(4, signed=True)),
    int: (0x81, lambda value: value.to_bytes(8, signed=True)),
    Timestamp: (0x83, lambda value: value.to_bytes(8, signed=True)),
    Float: (0x72, lambda value: struct.pack(">f", value)),
    float: (0x82, lambda value: struct.pack(">d", value)),
    Char: (0x73, lambda value: value.encode("utf-32-be")),
    uuid.UUID: (0x98, lambda value: value.bytes),
    bytes: (0xB0, _sized),
    str: (0xB1, lambda value: _sized(value.encode())),
    Symbol: (0xB3, lambda value: _sized(value.encode("ascii"))),
    list: (0xD0, _wide(_list)),
    dict: (0xD1, _wide(_map)),
    Array: (0xF0, lambda value: _array(value)[1:]),
}
