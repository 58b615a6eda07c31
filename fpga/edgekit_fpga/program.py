"""A program for the NPU: instructions, the memories they start from, where tensors lie."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga import isa
from edgekit_fpga.arithmetic import Int8, Int64
from edgekit_fpga.errors import PackageError

REQUANT_ENTRY = np.dtype("<u8")


@dataclass(frozen=True)
class Placement:
    """Where a tensor lies in activation memory; the terms are those of docs/npu-isa.md."""

    base: int
    row: int
    pixel: int
    rotation: int
    channels: int
    height: int
    width: int
    dense: bool = False

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            low = 0 if name in ("base", "rotation", "dense") else 1
            if not isinstance(value, int) or not low <= value < 1 << 24:
                raise PackageError(f"a tensor's placement has {name}={value!r}")


@dataclass(frozen=True)
class Trace:
    """The graph's tensors an instruction makes on its way; empty where the step is not taken.

    `macs` are the model's own multiply-accumulates in it.
    """

    node: str
    own: str = ""
    table: str = ""
    add: str = ""
    pool: str = ""
    macs: int = 0


@dataclass(frozen=True, eq=False)
class Program:
    """All the NPU needs: instructions and the contents of its memories.

    Attributes:
        instructions: ending with END.
        weights: (words, O, I) int8, in the order of the weight stream.
        resident: how many words are in weight memory from word 0 on before the start.
        requant: (tiles * O,) uint64 entries.
        tables: (entries,) int64, each of 36 bits.
        placements: of every tensor that lies in memory, by name.
        traces: one an instruction that makes tensors.
    """

    instructions: tuple[isa.Instruction, ...]
    weights: Int8
    resident: int
    requant: NDArray[np.uint64]
    tables: Int64
    placements: Mapping[str, Placement]
    traces: tuple[Trace, ...]

    def files(self) -> dict[str, bytes]:
        """The program's files as docs/npu-isa.md describes them."""
        return {
            "program.bin": isa.encode_program(self.instructions),
            "weights.bin": self.weights.tobytes(),
            "requant.bin": self.requant.astype(REQUANT_ENTRY).tobytes(),
            "tables.bin": self.tables.astype("<i8").tobytes(),
        }


def program_of(
    files: Mapping[str, bytes],
    lanes: tuple[int, int],
    resident: int,
    placements: Mapping[str, Mapping[str, Any]],
    traces: list[Mapping[str, Any]],
) -> Program:
    """Read a program back from its files; `lanes` is (O, I).

    Raises:
        PackageError: sizes that do not fit the array, or descriptions that are none.
        IsaError: instructions that do not decode.
    """
    outputs, reduction = lanes
    for name, unit in (("weights.bin", outputs * reduction), ("requant.bin", 8 * outputs)):
        if len(files[name]) % unit:
            raise PackageError(f"{name} is not a multiple of {unit} bytes")
    if len(files["tables.bin"]) % (8 * isa.TABLE_ENTRIES):
        raise PackageError("tables.bin does not hold whole tables")
    try:
        return Program(
            isa.decode_program(files["program.bin"]),
            np.frombuffer(files["weights.bin"], np.int8).reshape(-1, outputs, reduction),
            resident,
            np.frombuffer(files["requant.bin"], REQUANT_ENTRY),
            np.frombuffer(files["tables.bin"], "<i8").astype(np.int64),
            {name: Placement(**fields) for name, fields in placements.items()},
            tuple(Trace(**trace) for trace in traces),
        )
    except TypeError as error:
        raise PackageError(
            f"the manifest's description of the program is wrong: {error}"
        ) from error


def pack_entry(bias: Int64, mantissa: Int64, shift: Int64) -> NDArray[np.uint64]:
    """Requant entries: bias in bits 0-31, mantissa in 32-55, shift in 56-61."""
    words = (bias & 0xFFFFFFFF) | (mantissa << 32) | (shift << 56)
    return words.astype(np.uint64)


def unpack_entry(entries: NDArray[np.uint64]) -> tuple[Int64, Int64, Int64]:
    """Bias, mantissa and shift of requant entries."""
    bias = (entries & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.int32).astype(np.int64)
    mantissa = ((entries >> np.uint64(32)) & np.uint64(0xFFFFFF)).astype(np.int64)
    return bias, mantissa, ((entries >> np.uint64(56)) & np.uint64(0x3F)).astype(np.int64)
