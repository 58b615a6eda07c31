"""Boards as data: array, memories, clock and link of each, one TOML file a board."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import resources
from typing import Any

from edgekit_fpga.errors import BoardError

# the cores there are, by the names of their modules in RTL
COMPACT = "npu_compact"
CORES = ("npu", COMPACT)
# links, by what stands between host and core: `rtl/npu_axi.sv`, or a UART in front of it
AXI, SERIAL = "axi", "serial"
# how far a UART may be off before a byte's last bit is read beside its middle, both ends together
BAUD_TOLERANCE = 0.02


@dataclass(frozen=True)
class Array:
    """The parameters of the overlay; docs/npu-isa.md names them I, O, R, B, L, P, T and W."""

    reduction_lanes: int
    output_lanes: int
    requantizers: int
    banks: int
    lookups: int
    patch_bytes: int
    window_taps: int
    latency: int
    core: str = "npu"
    requantizer_cycles: int = 1

    def __post_init__(self) -> None:
        _positive(self)
        if self.core not in CORES:
            raise BoardError(f"array: core is {self.core!r}, not one of {', '.join(CORES)}")
        lanes = self.output_lanes
        if self.reduction_lanes % lanes:
            raise BoardError("array: reduction_lanes is not a multiple of output_lanes")
        for name in ("requantizers", "lookups"):
            if lanes % getattr(self, name):
                raise BoardError(f"array: {name} does not divide output_lanes")
        if self.banks & (self.banks - 1):
            raise BoardError("array: banks is not a power of two")
        if self.patch_bytes % self.reduction_lanes:
            raise BoardError("array: patch_bytes is not a multiple of reduction_lanes")

    @property
    def pools(self) -> bool:
        """Whether the core sums all pixels of a layer's result beside the layer."""
        return self.core != COMPACT

    @property
    def macs(self) -> int:
        """Multiply-accumulates in a cycle."""
        return self.reduction_lanes * self.output_lanes

    @property
    def word_bytes(self) -> int:
        """Bytes of one weight word."""
        return self.macs


@dataclass(frozen=True)
class Memory:
    """Sizes of the on-chip memories, in the units of docs/npu-isa.md."""

    activation_granules: int
    weight_words: int
    requant_tiles: int
    table_entries: int
    instructions: int

    def __post_init__(self) -> None:
        _positive(self)


@dataclass(frozen=True)
class Link:
    """How the board talks to its host; `edgekit_fpga.cycles.link_cycles` is how fast.

    Attributes:
        kind: `axi`, streams of 32 bits; `serial`, a UART.
        baud: bits a second of the UART; 0 where there is none.
    """

    kind: str
    baud: int = 0

    def __post_init__(self) -> None:
        if self.kind not in (AXI, SERIAL):
            raise BoardError(f"link: kind is {self.kind!r}, not {AXI} or {SERIAL}")
        if type(self.baud) is not int or (self.baud > 0) != (self.kind == SERIAL):
            raise BoardError(f"link: baud of kind {self.kind} is {self.baud!r}")


@dataclass(frozen=True)
class Part:
    """The chip a board carries, as place and route names it, and what is on it.

    Attributes:
        top: the module with its clock and pins, of `synthesis/tops`; boards that differ in the chip
            alone share one.
        device: nextpnr's option for the die: `85k`, `up5k`.
        package: its case, by nextpnr's name.
        speed: its speed grade; empty where the family has none.
        oscillator_mhz: the clock that comes in from outside.
        pins: port of the board's top module -> site. The clock's has a name with `clk` in it.
        resources: kind of cell, by nextpnr's name -> how many the part has.
    """

    top: str
    device: str
    package: str
    speed: str
    oscillator_mhz: int
    pins: Mapping[str, str]
    resources: Mapping[str, int]


@dataclass(frozen=True)
class Board:
    """One board: a name, a clock in MHz, the array, the memories, the link."""

    name: str
    about: str
    family: str
    clock_mhz: int
    array: Array
    memory: Memory
    link: Link

    def __post_init__(self) -> None:
        if any(type(text) is not str for text in (self.name, self.about, self.family)):
            raise BoardError("name, about and family of a board are text")
        if type(self.clock_mhz) is not int or self.clock_mhz < 1:
            raise BoardError(f"clock_mhz is {self.clock_mhz!r}")
        if self.link.kind == SERIAL:
            wanted = self.clock_mhz * 1e6 / self.link.baud
            if abs(self.clocks_per_bit - wanted) > BAUD_TOLERANCE * wanted:
                raise BoardError(f"{self.clock_mhz} MHz make no {self.link.baud} baud")

    @property
    def clocks_per_bit(self) -> int:
        """Cycles of a bit on the serial line."""
        return round(self.clock_mhz * 1e6 / self.link.baud)

    def as_dict(self) -> dict[str, Any]:
        """The board as plain data, the inverse of `board_from_dict`."""
        return asdict(self)


def board_from_dict(data: Mapping[str, Any]) -> Board:
    """Build a board of plain data.

    Raises:
        BoardError: a key is missing, unknown, or its value of the wrong kind.
    """
    try:
        return Board(
            **{**data, "array": Array(**data["array"]), "memory": Memory(**data["memory"])}
            | {"link": Link(**data["link"])}
        )
    except (TypeError, KeyError) as error:
        raise BoardError(
            f"a board's description is wrong: {error}",
            "if it is in a package of an earlier release, compile the model again",
        ) from error


def board_names() -> tuple[str, ...]:
    """The boards that come with edgekit, in alphabetical order."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if ".toml" in file.name))


def load_board(name: str) -> Board:
    """The board called `name`.

    Raises:
        BoardError: no such board.
    """
    description = _read(name)
    description.pop("part", None)
    return board_from_dict(description)


def load_part(name: str) -> Part | None:
    """The chip of the board called `name`; None where the board stands for chips of any vendor.

    Apart from `Board`, because packages carry the board they are for, and not its pins.

    Raises:
        BoardError: no such board, or its file describes no part.
    """
    description = _read(name).get("part")
    try:
        return None if description is None else Part(**description)
    except TypeError as error:
        raise BoardError(f"{name}, part: {error}") from error


def _read(name: str) -> dict[str, Any]:
    if name not in board_names():
        raise BoardError(f"no board is called {name!r}", f"use one of {', '.join(board_names())}")
    return tomllib.loads((resources.files(__name__) / f"{name}.toml").read_text())


def _positive(numbers: Array | Memory) -> None:
    for field in fields(numbers):
        value = getattr(numbers, field.name)
        if field.name != "core" and (
            not isinstance(value, int) or isinstance(value, bool) or value < 1
        ):
            raise BoardError(f"{field.name} is {value!r}, not a positive whole number")
