"""AMQP 1.0 types: values from bytes, and bytes from values.

Section numbers are those of part 1 of the OASIS standard. Python's own types stand for the AMQP
types with the same meaning; where a value must have one certain AMQP type on the wire, it is
wrapped in one of the classes here.
"""

import struct
import uuid
from dataclasses import dataclass
from typing import Any

DEPTH_LIMIT = 32  # of nested lists, maps and described values: deeper ones are an attack


class Malformed(Exception):
    """Bytes that are no AMQP; the connection is closed."""


class Symbol(str):
    """A symbol: ASCII, from a set that the standard or the service fixes."""

    __slots__ = ()


class Ubyte(int):
    """An unsigned integer of 8 bits."""


class Ushort(int):
    """An unsigned integer of 16 bits."""


class Uint(int):
    """An unsigned integer of 32 bits."""


class Ulong(int):
    """An unsigned integer of 64 bits."""


class Int(int):
    """A signed integer of 32 bits; a plain Python integer goes out as 64 bits."""


class Timestamp(int):
    """Milliseconds since 1970 (UTC)."""


@dataclass(frozen=True)
class Described:
    """A value with a descriptor, as all of the protocol's own structures are."""

    descriptor: Any
    value: Any


class Symbols(list[str]):
    """An array of symbols."""


_FIXED: dict[int, tuple[str, type]] = {
    0x50: (">B", Ubyte),
    0x51: (">b", int),
    0x52: (">B", Uint),
    0x53: (">B", Ulong),
    0x54: (">b", Int),
    0x55: (">b", int),
    0x60: (">H", Ushort),
    0x61: (">h", int),
    0x70: (">I", Uint),
    0x71: (">i", Int),
    0x72: (">f", float),
    0x73: (">I", int),
    0x80: (">Q", Ulong),
    0x81: (">q", int),
    0x82: (">d", float),
    0x83: (">q", Timestamp),
}
_CONSTANT = {0x40: None, 0x41: True, 0x42: False, 0x43: Uint(0), 0x44: Ulong(0)}


class Decoder:
    """Reads values one after another.

    Args:
        data: the bytes.
        position: where to begin.
    """

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position
        self._depth = 0

    @property
    def ended(self) -> bool:
        """Whether all has been read."""
        return self.position >= len(self.data)

    def value(self) -> Any:
        """The next value.

        Raises:
            Malformed: there is none.
        """
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise Malformed("values nested too deep")
        code = self._byte()
        if code == 0x00:
            descriptor = self.value()
            found: Any = Described(descriptor, self.value())
        else:
            found = self._primitive(code)
        self._depth -= 1
        return found

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self.data):
            raise Malformed("a value runs over the end")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def _primitive(self, code: int) -> Any:
        if code in _CONSTANT:
            return _CONSTANT[code]
        if code in _FIXED:
            layout, kind = _FIXED[code]
            return kind(struct.unpack(layout, self._take(struct.calcsize(layout)))[0])
        if code == 0x56:
            return self._byte() != 0
        if code == 0x98:
            return uuid.UUID(bytes=self._take(16))
        if code in (0xA0, 0xB0):
            return self._sized(code)
        if code in (0xA1, 0xB1, 0xA3, 0xB3):
            return self._text(code)
        if code == 0x45:
            return []
        if code in (0xC0, 0xD0, 0xC1, 0xD1):
            return self._compound(code)
        if code in (0xE0, 0xF0):
            return self._array(code)
        raise Malformed(f"no type has the code 0x{code:02x}")

    def _sized(self, code: int) -> bytes:
        """Bytes with a length of one byte (codes 0xA.), or four (0xB.)."""
        return self._take(int.from_bytes(self._take(1 if code < 0xB0 else 4)))

    def _text(self, code: int) -> str:
        try:
            if code in (0xA3, 0xB3):
                return Symbol(self._sized(code).decode("ascii"))
            return self._sized(code).decode()
        except UnicodeDecodeError as error:
            raise Malformed("a text that is none") from error

    def _count(self, wide: bool) -> tuple[int, int]:
        """Number of items, and where they end."""
        width = 4 if wide else 1
        size = int.from_bytes(self._take(width))
        end = self.position + size
        count = int.from_bytes(self._take(width))
        if end > len(self.data) or count > size:
            raise Malformed("a compound value runs over the end")
        return count, end

    def _compound(self, code: int) -> Any:
        count, end = self._count(code >= 0xD0)
        items = [self.value() for _ in range(count)]
        if self.position != end:
            raise Malformed("a compound value is not as long as it says")
        if code in (0xC0, 0xD0):
            return items
        if count % 2:
            raise Malformed("a map with a key without value")
        try:
            return dict(zip(items[::2], items[1::2], strict=True))
        except TypeError as error:
            raise Malformed("a map whose key is a map or a list") from error

    def _array(self, code: int) -> list[Any]:
        count, end = self._count(code >= 0xF0)
        descriptor = None
        kind = self._byte()
        if kind == 0x00:
            descriptor = self.value()
            kind = self._byte()
        if kind == 0x00 or (count > 0 and kind in _CONSTANT and count > 1000):
            raise Malformed("an array that cannot be")
        items = [self._primitive(kind) for _ in range(count)]
        if self.position != end:
            raise Malformed("an array is not as long as it says")
        return items if descriptor is None else [Described(descriptor, item) for item in items]


def encode(value: Any) -> bytes:
    """The bytes of a value: the shortest form where the standard has several."""
    if value is None:
        return b"\x40"
    if isinstance(value, bool):
        return b"\x41" if value else b"\x42"
    if isinstance(value, Described):
        return b"\x00" + encode(value.descriptor) + encode(value.value)
    if isinstance(value, int):
        return _encode_integer(value)
    if isinstance(value, float):
        return b"\x82" + struct.pack(">d", value)
    if isinstance(value, str):
        text = value.encode()
        return _sized(0xA3 if isinstance(value, Symbol) else 0xA1, text)
    if isinstance(value, bytes | bytearray | memoryview):
        return _sized(0xA0, bytes(value))
    if isinstance(value, uuid.UUID):
        return b"\x98" + value.bytes
    if isinstance(value, Symbols):
        return _encode_symbols(value)
    if isinstance(value, list | tuple):
        return _compound(0xC0, [encode(item) for item in value]) if value else b"\x45"
    if isinstance(value, dict):
        return _compound(0xC1, [encode(part) for pair in value.items() for part in pair])
    raise TypeError(f"{type(value).__name__} has no AMQP type")


def _encode_integer(value: int) -> bytes:
    if isinstance(value, Ubyte):
        return bytes((0x50, value))
    if isinstance(value, Ushort):
        return b"\x60" + struct.pack(">H", value)
    if isinstance(value, Uint):
        if value == 0:
            return b"\x43"
        return bytes((0x52, value)) if value < 256 else b"\x70" + struct.pack(">I", value)
    if isinstance(value, Ulong):
        if value == 0:
            return b"\x44"
        return bytes((0x53, value)) if value < 256 else b"\x80" + struct.pack(">Q", value)
    if isinstance(value, Timestamp):
        return b"\x83" + struct.pack(">q", value)
    if isinstance(value, Int):
        return b"\x71" + struct.pack(">i", value)
    return b"\x81" + struct.pack(">q", value)


def _sized(code: int, data: bytes) -> bytes:
    if len(data) < 256:
        return bytes((code, len(data))) + data
    return bytes((code + 0x10,)) + len(data).to_bytes(4) + data


def _compound(code: int, items: list[bytes]) -> bytes:
    body = b"".join(items)
    if len(body) < 255 and len(items) < 256:
        return bytes((code, len(body) + 1, len(items))) + body
    return bytes((code + 0x10,)) + (len(body) + 4).to_bytes(4) + len(items).to_bytes(4) + body


def _encode_symbols(symbols: Symbols) -> bytes:
    body = b"\xb3" + b"".join(len(s).to_bytes(4) + s.encode() for s in symbols)
    return b"\xf0" + (len(body) + 4).to_bytes(4) + len(symbols).to_bytes(4) + body
