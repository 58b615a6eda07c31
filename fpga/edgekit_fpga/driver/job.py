"""What a host does with the NPU, as commands: load memories, run, read tensors back.

A job is a list of commands. The driver carries them out over a port; encoded, they are what module
npu's test bench takes (`simulate/npu_bench.cpp` has that format). The words are the same for both.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga import isa
from edgekit_fpga.boards import Board
from edgekit_fpga.program import Placement, Program

Int8 = NDArray[np.int8]
Granules = NDArray[np.int64]

PROGRAM, WEIGHTS, REQUANT, TABLES, ACTIVATIONS = range(5)
WORD_BYTES = 4


@dataclass(frozen=True)
class Load:
    """Put `data` into a memory from word `address` on."""

    memory: int
    address: int
    data: bytes

    def encode(self) -> bytes:
        """The command for the bench."""
        head = struct.pack("<4I", 0, self.memory, self.address, len(self.data) // WORD_BYTES)
        return head + self.data


@dataclass(frozen=True)
class Run:
    """Start, stream `data` to the program's LOADs, give up after `limit` cycles."""

    limit: int
    data: bytes

    def encode(self) -> bytes:
        """The command for the bench."""
        return struct.pack("<3I", 1, self.limit, len(self.data) // WORD_BYTES) + self.data


@dataclass(frozen=True)
class Read:
    """Read `count` granules from `address` (bank in bits 24-31, granule below) on."""

    address: int
    count: int

    def encode(self) -> bytes:
        """The command for the bench."""
        return struct.pack("<3I", 2, self.address, self.count)


@dataclass
class Job:
    """Commands for the NPU, and what its answers will mean."""

    board: Board
    commands: list[Load | Run | Read] = field(default_factory=list)

    def encode(self) -> bytes:
        """All commands for the bench."""
        return b"".join(command.encode() for command in self.commands)

    def load(self, memory: int, address: int, data: bytes) -> None:
        """Put `data` into a memory from word `address` on."""
        words = -(-len(data) // WORD_BYTES)
        self.commands.append(Load(memory, address, data.ljust(words * WORD_BYTES, b"\0")))

    def load_program(self, program: Program) -> None:
        """Put a program into instruction, requantization and table memory."""
        files = program.files()
        self.load(PROGRAM, 0, files["program.bin"])
        self.load(REQUANT, 0, files["requant.bin"])
        if files["tables.bin"]:
            self.load(TABLES, 0, files["tables.bin"])

    def load_weights(self, program: Program) -> None:
        """Put the resident weights into weight memory."""
        if program.resident:
            self.load(WEIGHTS, 0, program.weights[: program.resident].tobytes())

    def run(self, program: Program, limit: int) -> None:
        """Start, and stream in what the program's LOADs take."""
        words = sum(step.count for step in program.instructions if isinstance(step, isa.Load))
        data = program.weights[program.resident : program.resident + words].tobytes()
        self.commands.append(Run(limit, data))

    def write_tensor(self, place: Placement, value: Int8) -> None:
        """Put a tensor (C, H, W) where `place` says."""
        numbers, content = tensor_granules(place, value, self.board)
        order = np.argsort(numbers, kind="stable")
        for first, last in _runs(numbers[order], self.board):
            part = order[first:last]
            self.load(
                ACTIVATIONS, self._address(int(numbers[part[0]])), self._padded(content[part])
            )

    def read_tensor(self, place: Placement) -> int:
        """Ask for a tensor's granules; the number of 32-bit words that will come."""
        numbers = np.sort(tensor_numbers(place, self.board).reshape(-1))
        for first, last in _runs(numbers, self.board):
            self.commands.append(Read(self._address(int(numbers[first])), last - first))
        return len(numbers) * granule_words(self.board)

    def tensor_of(self, place: Placement, words: bytes) -> Int8:
        """The tensor (C, H, W) in the words that answered `read_tensor`."""
        lanes = self.board.array.output_lanes
        numbers = tensor_numbers(place, self.board)
        stored = np.frombuffer(words, np.int8).reshape(-1, granule_words(self.board) * WORD_BYTES)
        content = np.empty((numbers.size, lanes), np.int8)
        content[np.argsort(numbers.reshape(-1), kind="stable")] = stored[:, :lanes]
        pixels = content.reshape(place.height, place.width, -1)[..., : place.channels]
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def _padded(self, content: Int8) -> bytes:
        wide = np.zeros((len(content), granule_words(self.board) * WORD_BYTES), np.int8)
        wide[:, : content.shape[1]] = content
        return wide.tobytes()

    def _address(self, number: int) -> int:
        bank, granule = divmod(number, self.board.memory.activation_granules)
        return bank << 24 | granule


def granule_words(board: Board) -> int:
    """32-bit words that a granule takes on the stream."""
    return max(1, board.array.output_lanes // WORD_BYTES)


def tensor_numbers(place: Placement, board: Board) -> Granules:
    """A tensor's granules (H, W, granules of a pixel; dense: H, 1, granules of a row), counted
    through all banks: bank * granules of a bank + granule."""
    array, size = board.array, board.memory.activation_granules
    line = np.arange(place.height) + place.rotation
    start = line % array.banks * size + place.base + line // array.banks * place.row
    if place.dense:
        pixels = np.zeros(1, np.int64)
        part = np.arange(-(-place.width * place.channels // array.output_lanes))
    else:
        pixels = np.arange(place.width) * place.pixel
        part = np.arange(-(-place.channels // array.output_lanes))
    return start[:, None, None] + pixels[None, :, None] + part[None, None, :]


def tensor_granules(place: Placement, value: Int8, board: Board) -> tuple[Granules, Int8]:
    """A tensor's granules, flat, and their content (granules, O)."""
    lanes = board.array.output_lanes
    numbers = tensor_numbers(place, board)
    pixels = value.transpose(1, 2, 0)
    if place.dense:
        pixels = pixels.reshape(place.height, 1, -1)
    content = np.zeros((*pixels.shape[:2], numbers.shape[2] * lanes), np.int8)
    content[..., : pixels.shape[2]] = pixels
    return numbers.reshape(-1), content.reshape(-1, lanes)


def _runs(numbers: Granules, board: Board) -> Iterator[tuple[int, int]]:
    """Stretches [first, last) of sorted granule numbers that follow each other in one bank."""
    size = board.memory.activation_granules
    breaks = (np.diff(numbers) != 1) | (np.diff(numbers // size) != 0)
    edges = [0, *(np.flatnonzero(breaks) + 1), len(numbers)]
    for first, last in pairwise(edges):
        yield int(first), int(last)


def streams_weights(program: Program) -> bool:
    """Whether a run replaces weights, so that the next one needs the resident ones again."""
    return any(isinstance(step, isa.Load) for step in program.instructions)
