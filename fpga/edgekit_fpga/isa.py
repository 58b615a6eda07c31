"""The NPU's instructions: what each holds, its 128-byte encoding, and its assembly text.

docs/npu-isa.md gives the meaning of every field; `interpreter` is the meaning itself. An
instruction is a frozen dataclass whose fields carry their place in the encoding, so that the
encoder, the decoder, the assembler and the table in the document all read one description.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from edgekit_fpga.errors import IsaError

ISA_VERSION = 2
INSTRUCTION_BYTES = 128
TABLE_ENTRIES = 256
TABLE_ENTRY_BITS = 36


def _at(word: int, low: int, width: int, *, signed: bool = False) -> Any:
    """A field of `width` bits whose lowest bit is bit `low` of 32-bit word `word`."""
    return dataclasses.field(default=0, metadata={"at": (word * 32 + low, width, signed)})


@dataclass(frozen=True)
class Instruction:
    """What all instructions share: an opcode, and fields that must fit their widths."""

    OPCODE: ClassVar[int]
    NAME: ClassVar[str]

    def __post_init__(self) -> None:
        for name, (_, width, signed) in layout(type(self)).items():
            value = getattr(self, name)
            low, high = (-(1 << (width - 1)), 1 << (width - 1)) if signed else (0, 1 << width)
            if not low <= value < high:
                raise IsaError(f"{self.NAME}: {name}={value} does not fit {width} bits")


@dataclass(frozen=True)
class End(Instruction):
    """Stop: raise done when every write of the program has landed."""

    OPCODE: ClassVar[int] = 0
    NAME: ClassVar[str] = "END"


@dataclass(frozen=True)
class Load(Instruction):
    """Take `count` weight words from the weight stream into weight memory at `weights`."""

    OPCODE: ClassVar[int] = 1
    NAME: ClassVar[str] = "LOAD"

    weights: int = _at(18, 0, 24)
    count: int = _at(19, 0, 24)


@dataclass(frozen=True)
class _Layer(Instruction):
    """The fields of every instruction that turns an activation tensor into another."""

    # flags, word 0
    wait: int = _at(0, 8, 1)
    add: int = _at(0, 9, 1)
    table: int = _at(0, 10, 1)
    pool: int = _at(0, 11, 1)
    pad_value: int = _at(0, 24, 8, signed=True)
    # input tensor, words 1-4
    in_base: int = _at(1, 0, 24)
    in_row: int = _at(2, 0, 16)
    in_pixel: int = _at(2, 16, 12)
    in_rotation: int = _at(2, 28, 4)
    in_height: int = _at(3, 0, 16)
    in_width: int = _at(3, 16, 16)
    in_granules: int = _at(4, 0, 16)
    # output tensor, words 5-8
    out_base: int = _at(5, 0, 24)
    out_row: int = _at(6, 0, 16)
    out_pixel: int = _at(6, 16, 12)
    out_rotation: int = _at(6, 28, 4)
    out_height: int = _at(7, 0, 16)
    out_width: int = _at(7, 16, 16)
    out_granules: int = _at(8, 0, 16)
    # residual operand, words 9-10
    add_base: int = _at(9, 0, 24)
    add_row: int = _at(10, 0, 16)
    add_pixel: int = _at(10, 16, 12)
    add_rotation: int = _at(10, 28, 4)
    # clamp after the requantizer, word 11
    zero_point: int = _at(11, 0, 8, signed=True)
    low: int = _at(11, 8, 8, signed=True)
    high: int = _at(11, 16, 8, signed=True)
    # window, words 12-15
    kernel_height: int = _at(12, 0, 16)
    kernel_width: int = _at(12, 16, 16)
    stride_height: int = _at(13, 0, 8)
    stride_width: int = _at(13, 8, 8)
    dilation_height: int = _at(13, 16, 8)
    dilation_width: int = _at(13, 24, 8)
    pad_top: int = _at(14, 0, 16, signed=True)
    pad_left: int = _at(14, 16, 16, signed=True)
    steps: int = _at(15, 0, 16)
    # post-processing, words 20-28
    requant: int = _at(20, 0, 24)
    table_base: int = _at(21, 0, 24)
    add_table: int = _at(22, 0, 24)
    add_multiplier: int = _at(23, 0, 25, signed=True)
    add_shift: int = _at(24, 0, 6)
    add_low: int = _at(24, 8, 8, signed=True)
    add_high: int = _at(24, 16, 8, signed=True)
    add_offset: int = _at(24, 24, 8, signed=True)
    pool_bias: int = _at(25, 0, 32, signed=True)
    pool_multiplier: int = _at(26, 0, 24)
    pool_shift: int = _at(26, 24, 6)
    pool_zero_point: int = _at(27, 0, 8, signed=True)
    pool_low: int = _at(27, 8, 8, signed=True)
    pool_high: int = _at(27, 16, 8, signed=True)


@dataclass(frozen=True)
class Conv(_Layer):
    """Convolution: reduction lanes hold input channels of one tap; dense layers are 1x1."""

    OPCODE: ClassVar[int] = 2
    NAME: ClassVar[str] = "CONV"

    # granules the input channel moves on per output tile: 0 dense, 1 diagonal (depthwise)
    advance: int = _at(15, 16, 16)
    weights: int = _at(18, 0, 24)


@dataclass(frozen=True)
class Pack(_Layer):
    """Convolution over few channels: reduction lanes hold the whole patch ky, kx, c, packed."""

    OPCODE: ClassVar[int] = 3
    NAME: ClassVar[str] = "PACK"

    channels: int = _at(15, 16, 16)
    weights: int = _at(18, 0, 24)


@dataclass(frozen=True)
class Depthwise(_Layer):
    """Depthwise convolution: reduction lanes hold the window's taps, output lanes channels."""

    OPCODE: ClassVar[int] = 4
    NAME: ClassVar[str] = "DWCONV"

    weights: int = _at(18, 0, 24)


@dataclass(frozen=True)
class MaxPool(_Layer):
    """The largest value of each window; padding never wins."""

    OPCODE: ClassVar[int] = 5
    NAME: ClassVar[str] = "MAXPOOL"


@dataclass(frozen=True)
class Map(_Layer):
    """Element by element: copy, table, add; with strides, shifts and nearest repetition."""

    OPCODE: ClassVar[int] = 6
    NAME: ClassVar[str] = "MAP"

    # output pixels per input pixel (nearest); 1 everywhere else
    repeat_height: int = _at(16, 0, 8)
    repeat_width: int = _at(16, 8, 8)


@dataclass(frozen=True)
class Multiply(_Layer):
    """Element by element: (a - za) * (b - zb), requantized; b is the residual operand."""

    OPCODE: ClassVar[int] = 7
    NAME: ClassVar[str] = "MUL"

    in_zero_point: int = _at(17, 0, 8, signed=True)
    add_zero_point: int = _at(17, 8, 8, signed=True)


Layer = Conv | Pack | Depthwise | MaxPool | Map | Multiply

KINDS: tuple[type[Instruction], ...] = (End, Load, Conv, Pack, Depthwise, MaxPool, Map, Multiply)
_BY_OPCODE = {kind.OPCODE: kind for kind in KINDS}
_BY_NAME = {kind.NAME: kind for kind in KINDS}
_LAYOUTS: dict[type[Instruction], dict[str, tuple[int, int, bool]]] = {}


def layout(kind: type[Instruction]) -> dict[str, tuple[int, int, bool]]:
    """Field name -> (lowest bit, width in bits, signed), in the order of the encoding."""
    if kind not in _LAYOUTS:
        places = {
            field.name: field.metadata["at"]
            for field in dataclasses.fields(kind)
            if "at" in field.metadata
        }
        _LAYOUTS[kind] = dict(sorted(places.items(), key=lambda item: item[1][0]))
    return _LAYOUTS[kind]


def encode(instruction: Instruction) -> bytes:
    """The instruction's 128 bytes, little-endian; unused bits are zero."""
    bits = instruction.OPCODE
    for name, (low, width, _) in layout(type(instruction)).items():
        bits |= (getattr(instruction, name) & ((1 << width) - 1)) << low
    return bits.to_bytes(INSTRUCTION_BYTES, "little")


def decode(data: bytes) -> Instruction:
    """The instruction in 128 bytes.

    Raises:
        IsaError: a wrong length, an unknown opcode, or a bit set that no field owns.
    """
    if len(data) != INSTRUCTION_BYTES:
        raise IsaError(f"an instruction has {INSTRUCTION_BYTES} bytes, not {len(data)}")
    bits = int.from_bytes(data, "little")
    kind = _BY_OPCODE.get(bits & 0xFF)
    if kind is None:
        raise IsaError(f"unknown opcode {bits & 0xFF}")
    values: dict[str, int] = {}
    rest = bits & ~0xFF
    for name, (low, width, signed) in layout(kind).items():
        value = (bits >> low) & ((1 << width) - 1)
        rest &= ~(((1 << width) - 1) << low)
        values[name] = value - (1 << width) if signed and value >> (width - 1) else value
    if rest:
        raise IsaError(f"{kind.NAME}: bit {rest.bit_length() - 1} is set and means nothing")
    return kind(**values)


def encode_program(program: Iterable[Instruction]) -> bytes:
    """All instructions, one after the other."""
    return b"".join(encode(instruction) for instruction in program)


def decode_program(data: bytes) -> tuple[Instruction, ...]:
    """The instructions of a program; it must end with its only END.

    Raises:
        IsaError: naming the index of the instruction that does not decode.
    """
    if not data or len(data) % INSTRUCTION_BYTES:
        raise IsaError(f"a program is a multiple of {INSTRUCTION_BYTES} bytes, not {len(data)}")
    program = []
    for start in range(0, len(data), INSTRUCTION_BYTES):
        try:
            program.append(decode(data[start : start + INSTRUCTION_BYTES]))
        except IsaError as error:
            raise IsaError(f"instruction {start // INSTRUCTION_BYTES}: {error}") from error
    ends = [index for index, step in enumerate(program) if isinstance(step, End)]
    if ends != [len(program) - 1]:
        raise IsaError("a program ends with its only END")
    return tuple(program)


def disassemble(program: Sequence[Instruction]) -> str:
    """One line an instruction: its name, then each field that is not zero as name=value."""
    lines = []
    for instruction in program:
        fields = (
            f"{name}={value}"
            for name in layout(type(instruction))
            if (value := getattr(instruction, name))
        )
        lines.append(" ".join([instruction.NAME, *fields]))
    return "\n".join(lines) + "\n"


_FIELD = re.compile(r"([a-z_]+)=(-?[0-9]+)")


def assemble(text: str) -> tuple[Instruction, ...]:
    """The inverse of `disassemble`; `#` starts a comment, empty lines are skipped.

    Raises:
        IsaError: naming the line.
    """
    program = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if words:
            try:
                program.append(_assemble_line(words))
            except IsaError as error:
                raise IsaError(f"line {number}: {error}") from error
    return tuple(program)


def _assemble_line(words: Sequence[str]) -> Instruction:
    kind = _BY_NAME.get(words[0])
    if kind is None:
        raise IsaError(f"no instruction is called {words[0]}", f"use one of {', '.join(_BY_NAME)}")
    values: dict[str, int] = {}
    for word in words[1:]:
        match = _FIELD.fullmatch(word)
        if match is None or match[1] not in layout(kind):
            raise IsaError(f"{kind.NAME} has no field in {word!r}")
        if match[1] in values:
            raise IsaError(f"{kind.NAME} names {match[1]} twice")
        values[match[1]] = int(match[2])
    return kind(**values)


def encoding_table() -> str:
    """The Markdown tables of docs/npu-isa.md: opcodes, then every field with its place."""
    lines = ["| Opcode | Instruction |", "|---|---|"]
    lines += [f"| {kind.OPCODE} | {kind.NAME} |" for kind in KINDS]
    lines += ["", "| Word | Bits | Field | Signed | In |", "|---|---|---|---|---|"]
    places: dict[tuple[int, int, bool, str], list[str]] = {}
    for kind in KINDS:
        for name, place in layout(kind).items():
            places.setdefault((*place, name), []).append(kind.NAME)
    layers = [kind.NAME for kind in KINDS if issubclass(kind, _Layer)]
    for (low, width, signed, name), owners in sorted(places.items()):
        bits = f"{low % 32}-{low % 32 + width - 1}" if width > 1 else f"{low % 32}"
        where = "every layer" if owners == layers else ", ".join(owners)
        lines.append(f"| {low // 32} | {bits} | `{name}` | {'yes' if signed else ''} | {where} |")
    return "\n".join(lines) + "\n"
