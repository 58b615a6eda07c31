"""The telemetry agent's store against a segmented log, on the same work.

    python benchmarks/telemetry_store.py [FOLDER]

FOLDER should lie on the disk that matters; the default is a temporary one. The log is the smallest
that does the job: records with CRC-32 behind each other in one file, the position of what was
uploaded in a second one, both synced. Every group of appended messages ends with one sync; every
window of 64 uploaded messages with another. Medians of five rounds, taken in turns.
"""

import os
import resource
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).parents[1] / "modules"))

from edgekit_runtime.telemetry.store import Message, Store

ROUNDS = 5
WINDOW = 64
PAYLOAD = 300  # bytes: an output of the digits model
HEADER = struct.Struct("<QII")  # position, length, CRC-32


class Candidate(Protocol):
    """What both can do."""

    def append(self, messages: Sequence[Message]) -> object:
        """Keep a group, on disk when this returns."""

    def read(self, after: int, number: int) -> Sequence[Any]:
        """The oldest that were not confirmed."""
        ...

    def confirm(self, position: int) -> None:
        """Forget all up to a position, on disk when this returns."""

    def close(self) -> None:
        """Close the files."""


class Kept:
    """A record of the log."""

    def __init__(self, position: int) -> None:
        self.position = position


class Log:
    """A log with checksums, and the position of what was uploaded."""

    def __init__(self, folder: Path) -> None:
        self._position = 0
        self._write = (folder / "0.log").open("ab", buffering=0)
        self._read = (folder / "0.log").open("rb")
        self._done = os.open(folder / "done", os.O_RDWR | os.O_CREAT)
        size = 0
        while record := self._next():  # recover: find the end, check every record
            self._position, size = record, self._read.tell()
        self._write.truncate(size)
        self._read.seek(0)

    def append(self, messages: Sequence[Message]) -> None:
        """Write records behind each other, then sync."""
        out = bytearray()
        for message in messages:
            self._position += 1
            body = b"\0".join((message.id.encode(), message.topic.encode(), message.payload))
            out += HEADER.pack(self._position, len(body), zlib.crc32(body)) + body
        self._write.write(out)
        os.fdatasync(self._write.fileno())

    def _next(self) -> int:
        head = self._read.read(HEADER.size)
        if len(head) < HEADER.size:
            return 0
        position, length, checksum = HEADER.unpack(head)
        body = self._read.read(length)
        return int(position) if zlib.crc32(body) == checksum else 0

    def read(self, _after: int, number: int) -> list[Kept]:
        """The next records."""
        found = []
        while len(found) < number and (position := self._next()):
            found.append(Kept(position))
        return found

    def confirm(self, position: int) -> None:
        """Write the position and sync."""
        os.pwrite(self._done, struct.pack("<Q", position), 0)
        os.fdatasync(self._done)

    def close(self) -> None:
        """Close the files."""
        self._write.close()
        self._read.close()
        os.close(self._done)


def written() -> int:
    """Bytes this process has sent to the disk so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("write_bytes")))


Figures = tuple[float, float, float, float, float]


def run(make: Callable[[Path], Candidate], folder: Path, group: int, total: int) -> Figures:
    """Append `total` messages in groups, open anew, upload all.

    Returns:
        Syncs, messages kept and messages uploaded per second, milliseconds to open, bytes written
        for each byte of payload.
    """
    payload = os.urandom(PAYLOAD)
    store = make(folder)
    before, start = written(), time.perf_counter()
    for first in range(0, total, group):
        store.append(
            [
                Message(f"id-{n}", "edgekit/scorer/outputs/output1", payload)
                for n in range(first, first + group)
            ]
        )
    appending = time.perf_counter() - start
    store.close()
    start = time.perf_counter()
    store = make(folder)
    store.read(0, 1)
    opening = time.perf_counter() - start
    start, sent = time.perf_counter(), 0
    while kept := store.read(0, WINDOW):
        store.confirm(kept[-1].position)
        sent += len(kept)
    draining = time.perf_counter() - start
    amplification = (written() - before) / (total * PAYLOAD)
    store.close()
    return (
        total / group / appending,
        total / appending,
        sent / draining,
        opening * 1000,
        amplification,
    )


def main() -> None:
    """Print the table."""
    parent = sys.argv[1] if len(sys.argv) > 1 else None
    candidates: dict[str, Callable[[Path], Candidate]] = {
        "SQLite": lambda folder: Store(folder / "t.db", 1 << 40),
        "log": Log,
    }
    print("| Store | Messages a sync | syncs/s | kept/s | uploaded/s | open | written / payload |")
    print("|---|---|---|---|---|---|---|")
    for group, total in ((1, 2_000), (20, 20_000), (200, 200_000)):
        rounds: dict[str, list[Figures]] = {name: [] for name in candidates}
        for _ in range(ROUNDS):  # in turns, so that a busy moment of the machine hits both
            for name, make in candidates.items():
                with tempfile.TemporaryDirectory(dir=parent) as folder:
                    rounds[name].append(run(make, Path(folder), group, total))
        for name, figures in rounds.items():
            syncs, kept, uploaded, opening, written_ = map(median, zip(*figures, strict=True))
            print(
                f"| {name} | {group} | {syncs:,.0f} | {kept:,.0f} | {uploaded:,.0f} "
                f"| {opening:,.1f} ms | {written_:.1f} |"
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"\nPeak memory of this process: {peak} MB")


if __name__ == "__main__":
    main()
