"""Values from bytes that nobody has looked at yet.

What is read comes from the network, so every length is checked against the bytes that are there,
nesting has a limit, and nothing is allocated on the word of a count alone.
"""

import struct
import uuid
from collections.abc import Callable
from typing import Any

from edgekit_sim.amqp.errors import Malformed
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

DEPTH_LIMIT = 32  # of values within values
EMPTY_ITEMS_LIMIT = 1024  # items of an array whose items take no bytes


class Decoder:
    """Reads values one after another.

    Args:
        data: the bytes.
        position: where to begin.

    Attributes:
        position: of the next byte.
    """

    def __init__(self, data: bytes, position: int = 0) -> None:
        self._data = data
        self.position = position
        self._end = len(data)
        self._depth = 0

    @property
    def ended(self) -> bool:
        """Whether all has been read."""
        return self.position >= self._end

    def value(self) -> Any:
        """The next value.

        Raises:
            Malformed: there is none.
        """
        return self._item(self._constructor())

    def rest(self) -> bytes:
        """The bytes that have not been read."""
        return self._data[self.position :]

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        end = self.position + size
        if end > self._end:
            raise Malformed("a value runs over the end of its bytes")
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def _number(self, width: int) -> int:
        return int.from_bytes(self.take(width))

    def _constructor(self) -> tuple[int, tuple[Any, ...]]:
        """A format code, and the descriptors before it, the outermost first."""
        code = self._number(1)
        descriptors: list[Any] = []
        while code == 0x00:
            if len(descriptors) >= DEPTH_LIMIT:
                raise Malformed("too many descriptors")
            descriptors.append(self._nested(self.value))
            code = self._number(1)
        return code, tuple(descriptors)

    def _item(self, constructor: tuple[int, tuple[Any, ...]]) -> Any:
        code, descriptors = constructor
        value = self._primitive(code)
        for descriptor in reversed(descriptors):
            value = Described(descriptor, value)
        return value

    def _primitive(self, code: int) -> Any:
        if code in _CONSTANTS:
            return [] if code == 0x45 else _CONSTANTS[code]
        fixed = _FIXED.get(code)
        if fixed is not None:
            width, read = fixed
            return read(self.take(width))
        variable = _VARIABLE.get(code)
        if variable is not None:
            width, read = variable
            return read(self.take(self._number(width)))
        compound = _COMPOUND.get(code)
        if compound is not None:
            width, read_compound = compound
            return self._nested(lambda: self._compound(width, read_compound))
        raise Malformed(f"no type has the format code 0x{code:02x}")

    def _nested(self, read: Callable[[], Any]) -> Any:
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise Malformed("values are nested too deep")
        value = read()
        self._depth -= 1
        return value

    def _compound(self, width: int, read: "Callable[[Decoder, int], Any]") -> Any:
        """A list, map or array: its size in bytes, its number of items, and these."""
        size = self._number(width)
        outer, end = self._end, self.position + size
        if end > outer:
            raise Malformed("a compound value runs over the end of its bytes")
        self._end = end
        value = read(self, self._number(width))
        if self.position != end:
            raise Malformed("a compound value is shorter than it says")
        self._end = outer
        return value

    def read_list(self, count: int) -> list[Any]:
        """The items of a list; each takes at least one byte, so the end stops a false count."""
        return [self.value() for _ in range(count)]

    def read_map(self, count: int) -> dict[Any, Any]:
        """The pairs of a map."""
        if count % 2:
            raise Malformed("a map has a key without a value")
        found = {}
        for _ in range(count // 2):
            key = self.value()
            try:
                found[key] = self.value()
            except TypeError as error:
                raise Malformed("a map has a list or a map as a key") from error
        return found

    def read_array(self, count: int) -> Array:
        """The items of an array."""
        code, descriptors = self._constructor()
        if code in _CONSTANTS and count > EMPTY_ITEMS_LIMIT:
            raise Malformed(f"an array of {count} items without bytes")
        if len(descriptors) > 1:
            raise Malformed("an array whose items are described twice")
        items = tuple(self._primitive(code) for _ in range(count))
        descriptor = descriptors[0] if descriptors else None
        return Array(_KINDS.get(code, type(None)), items, descriptor)


def decode(data: bytes) -> Any:
    """The one value that `data` holds.

    Raises:
        Malformed: it holds none, or more.
    """
    decoder = Decoder(data)
    value = decoder.value()
    if not decoder.ended:
        raise Malformed("more bytes than one value has")
    return value


def _unsigned(kind: type[int]) -> Callable[[bytes], Any]:
    return lambda data: kind(int.from_bytes(data))


def _signed(kind: type[int]) -> Callable[[bytes], Any]:
    return lambda data: kind(int.from_bytes(data, signed=True))


def _boolean(data: bytes) -> bool:
    if data[0] > 1:
        raise Malformed("a boolean that is neither true nor false")
    return data[0] == 1


def _char(data: bytes) -> Char:
    try:
        return Char(data.decode("utf-32-be"))
    except UnicodeDecodeError as error:
        raise Malformed("a character that is none") from error


def _text(kind: type[str], encoding: str) -> Callable[[bytes], Any]:
    def read(data: bytes) -> str:
        try:
            return kind(data.decode(encoding))
        except UnicodeDecodeError as error:
            raise Malformed(f"a text that is not {encoding}") from error

    return read


_CONSTANTS = {0x40: None, 0x41: True, 0x42: False, 0x43: Uint(0), 0x44: Ulong(0), 0x45: None}
_FIXED: dict[int, tuple[int, Callable[[bytes], Any]]] = {
    0x50: (1, _unsigned(Ubyte)),
    0x51: (1, _signed(Byte)),
    0x52: (1, _unsigned(Uint)),
    0x53: (1, _unsigned(Ulong)),
    0x54: (1, _signed(Int)),
    0x55: (1, _signed(int)),
    0x56: (1, _boolean),
    0x60: (2, _unsigned(Ushort)),
    0x61: (2, _signed(Short)),
    0x70: (4, _unsigned(Uint)),
    0x71: (4, _signed(Int)),
    0x72: (4, lambda data: Float(struct.unpack(">f", data)[0])),
    0x73: (4, _char),
    0x74: (4, Decimal),
    0x80: (8, _unsigned(Ulong)),
    0x81: (8, _signed(int)),
    0x82: (8, lambda data: float(struct.unpack(">d", data)[0])),
    0x83: (8, _signed(Timestamp)),
    0x84: (8, Decimal),
    0x94: (16, Decimal),
    0x98: (16, lambda data: uuid.UUID(bytes=data)),
}
_VARIABLE: dict[int, tuple[int, Callable[[bytes], Any]]] = {
    0xA0: (1, bytes),
    0xA1: (1, _text(str, "utf-8")),
    0xA3: (1, _text(Symbol, "ascii")),
    0xB0: (4, bytes),
    0xB1: (4, _text(str, "utf-8")),
    0xB3: (4, _text(Symbol, "ascii")),
}
_COMPOUND: dict[int, tuple[int, Callable[[Decoder, int], Any]]] = {
    0xC0: (1, Decoder.read_list),
    0xC1: (1, Decoder.read_map),
    0xD0: (4, Decoder.read_list),
    0xD1: (4, Decoder.read_map),
    0xE0: (1, Decoder.read_array),
    0xF0: (4, Decoder.read_array),
}
# what the items of an array are, by their format code
_KINDS: dict[int, type] = {
    **dict.fromkeys((0x41, 0x42, 0x56), bool),
    **dict.fromkeys((0x43, 0x52, 0x70), Uint),
    **dict.fromkeys((0x44, 0x53, 0x80), Ulong),
    **dict.fromkeys((0x45, 0xC0, 0xD0), list),
    **dict.fromkeys((0x54, 0x71), Int),
    **dict.fromkeys((0x55, 0x81), int),
    **dict.fromkeys((0x74, 0x84, 0x94), Decimal),
    **dict.fromkeys((0xA0, 0xB0), bytes),
    **dict.fromkeys((0xA1, 0xB1), str),
    **dict.fromkeys((0xA3, 0xB3), Symbol),
    **dict.fromkeys((0xC1, 0xD1), dict),
    **dict.fromkeys((0xE0, 0xF0), Array),
    0x50: Ubyte,
    0x51: Byte,
    0x60: Ushort,
    0x61: Short,
    0x72: Float,
    0x73: Char,
    0x82: float,
    0x83: Timestamp,
    0x98: uuid.UUID,
}
