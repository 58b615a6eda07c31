"""The AMQP 1.0 type system: values from bytes, and bytes from values (part 1 of the standard).

Python's own types stand for the AMQP types with the same meaning: None, bool, `int` (long), `float`
(double), `str`, `bytes`, `uuid.UUID`, `list`, `dict` (map). The other types have a class here, so
that a value keeps its type when it is read and written again.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self


class Integer(int):
    """An integer of a fixed width.

    Raises:
        ValueError: the number does not fit.
    """

    low: ClassVar[int]
    high: ClassVar[int]

    def __new__(cls, value: int) -> Self:
        """Take a number that fits."""
        if not cls.low <= value <= cls.high:
            raise ValueError(f"{value} is no {cls.__name__.lower()}")
        return super().__new__(cls, value)


class Ubyte(Integer):
    """An unsigned integer of 8 bits."""

    low, high = 0, 2**8 - 1


class Ushort(Integer):
    """An unsigned integer of 16 bits."""

    low, high = 0, 2**16 - 1


class Uint(Integer):
    """An unsigned integer of 32 bits."""

    low, high = 0, 2**32 - 1


class Ulong(Integer):
    """An unsigned integer of 64 bits."""

    low, high = 0, 2**64 - 1


class Byte(Integer):
    """A signed integer of 8 bits."""

    low, high = -(2**7), 2**7 - 1


class Short(Integer):
    """A signed integer of 16 bits."""

    low, high = -(2**15), 2**15 - 1


class Int(Integer):
    """A signed integer of 32 bits; a plain `int` has 64."""

    low, high = -(2**31), 2**31 - 1


class Timestamp(Integer):
    """Milliseconds since 1970 (UTC)."""

    low, high = -(2**63), 2**63 - 1


class Float(float):
    """A floating point number of 32 bits (IEEE 754); a plain `float` has 64."""


class Char(str):
    """One Unicode character."""

    __slots__ = ()


class Symbol(str):
    """A name from a constrained domain, ASCII."""

    __slots__ = ()


@dataclass(frozen=True)
class Decimal:
    """A decimal number of 32, 64 or 128 bits (IEEE 754), kept as its 4, 8 or 16 bytes."""

    data: bytes

    def __post_init__(self) -> None:
        if len(self.data) not in (4, 8, 16):
            raise ValueError(f"a decimal has 4, 8 or 16 bytes, not {len(self.data)}")


@dataclass(frozen=True)
class Described:
    """A value with a descriptor: how the protocol itself and others make types of their own."""

    descriptor: Any
    value: Any


@dataclass(frozen=True)
class Array:
    """Values of one type.

    Attributes:
        kind: the type of all of them, for example `Symbol`; `type(None)` for null.
        items: the values, without the descriptor that they share.
        descriptor: that descriptor; None when they have none.
    """

    kind: type
    items: tuple[Any, ...]
    descriptor: Any = None
