"""What was appended is there after anything short of losing the disk."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit_runtime.errors import StoreError, StoreFull
from edgekit_runtime.telemetry.store import Counts, Message, Store

LIMIT = 1 << 20
MODULES = Path(__file__).parents[3] / "modules"


def message(number: int, size: int = 100) -> Message:
    return Message(f"id {number}", "edgekit/scorer/outputs/output1", bytes(size))


def ids(store: Store) -> list[str]:
    return [kept.id for kept in store.read(0, 1_000_000)]


def test_keeps_order_and_counts(tmp_path: Path) -> None:
    store = Store(tmp_path / "t.db", LIMIT)
    assert store.append([message(n) for n in range(5)]) == 0
    first, second = store.read(0, 2)
    assert (first.id, second.id) == ("id 0", "id 1")
    store.confirm(second.position)
    store.append([message(5)])
    store.close()

    again = Store(tmp_path / "t.db", LIMIT)
    assert ids(again) == ["id 2", "id 3", "id 4", "id 5"]
    size = sum(kept.size for kept in again.read(0, 10))
    assert again.counts() == Counts(stored=6, uploaded=2, dropped=0, buffered=4, bytes=size)
    again.close()


def test_a_position_is_never_used_twice(tmp_path: Path) -> None:
    store = Store(tmp_path / "t.db", LIMIT)
    store.append([message(0)])
    (kept,) = store.read(0, 1)
    store.confirm(kept.position)
    store.append([message(1)])
    assert store.read(0, 1)[0].position > kept.position
    store.close()


groups = st.lists(st.lists(st.integers(0, 400_000), max_size=4), max_size=8)


@given(groups, st.sampled_from(["drop-oldest", "refuse"]))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_limit_holds_and_every_message_is_counted(
    tmp_path: Path, sizes: list[list[int]], policy: str
) -> None:
    path = tmp_path / f"{os.urandom(8).hex()}.db"
    store = Store(path, LIMIT, policy)
    handed, lost = 0, 0
    for group in sizes:
        lost += store.append([message(handed + n, size) for n, size in enumerate(group)])
        handed += len(group)
    counts = store.counts()
    kept = store.read(0, 1000)
    store.close()
    assert counts.bytes == sum(m.size for m in kept) <= LIMIT
    assert (counts.buffered, counts.dropped) == (len(kept), lost)
    assert len(kept) + lost == handed
    numbers = [int(m.id.split()[1]) for m in kept]
    assert numbers == sorted(numbers)
    if policy == "drop-oldest" and kept:
        assert numbers == list(range(handed - len(kept), handed))


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, where there is one: for thousands of small files."""
    shared = Path("/dev/shm")
    parent = shared if os.access(shared, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)


def test_a_torn_tail_is_cut_at_every_byte(memory: Path) -> None:
    with closing(sqlite3.connect(memory / "t.db")) as empty:
        # small pages: fewer bytes to cut at, and the same format
        empty.execute("PRAGMA page_size=512")
        empty.execute("PRAGMA user_version=1")
    store = Store(memory / "t.db", LIMIT)
    log = memory / "t.db-wal"
    ends = []
    for number in range(4):
        store.append([message(number)])
        ends.append(log.stat().st_size)
    torn = memory / "torn"
    torn.mkdir()
    shutil.copy(memory / "t.db", torn / "whole.db")
    whole = log.read_bytes()
    store.close()
    # every byte of the last transaction, every 53rd of the ones before
    for cut in [*range(0, ends[2], 53), *range(ends[2], len(whole) + 1)]:
        shutil.copy(torn / "whole.db", torn / "t.db")
        (torn / "t.db-wal").write_bytes(whole[:cut])
        recovered = sqlite3.connect(torn / "t.db")
        try:
            found = [
                row[0] for row in recovered.execute("SELECT id FROM message ORDER BY position")
            ]
        except sqlite3.OperationalError:
            # cut before the schema was committed: an empty database
            found = []
        recovered.close()
        assert found == [f"id {n}" for n, end in enumerate(ends) if end <= cut], cut


WRITER = """
import os, sys
from pathlib import Path
from edgekit_runtime.telemetry.store import Message, Store
store = Store(Path(sys.argv[1]), 1 << 30)
number = store.counts().stored
while True:
    group = [Message(f"id {number + n}", "t", bytes(50)) for n in range(1 + number % 7)]
    store.append(group)
    number += len(group)
    os.write(1, f"{number}\\n".encode())
    if number % 5 == 0:
        kept = store.read(0, 3)
        store.confirm(kept[-1].position)
"""


def test_killed_at_any_point_it_keeps_what_it_promised(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    for round_ in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, path],
            env={"PYTHONPATH": str(MODULES)},
            stdout=subprocess.PIPE,
        )
        assert writer.stdout is not None
        promised = 0
        for _ in range(3 + 17 * round_):
            promised = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        promised = max([promised, *(int(line) for line in writer.stdout.read().split())])
        writer.wait()
        writer.stdout.close()
        store = Store(path, LIMIT)
        counts = store.counts()
        numbers = [int(kept.id.split()[1]) for kept in store.read(0, 1_000_000)]
        store.close()
        assert counts.stored >= promised
        # nothing missing between the first that waits and the last that was stored
        assert numbers == list(range(counts.uploaded, counts.stored))


def test_no_room_is_said_and_nothing_is_half_kept(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from edgekit_runtime.errors import StoreFull
from edgekit_runtime.telemetry.store import Message, Store
store = Store(Path(sys.argv[1]), 1 << 30)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
number = 0
try:
    while True:
        store.append([Message(f"id {number + n}", "t", bytes(1000)) for n in range(10)])
        number += 10
except StoreFull:
    pass
assert store.counts().stored == number, (store.counts(), number)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.append([Message(f"id {number + n}", "t", bytes(1000)) for n in range(10)])
assert store.counts().stored == number + 10
print(number)
"""
    run = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "t.db"],
        env={"PYTHONPATH": str(MODULES)},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert int(run.stdout) > 0
    store = Store(tmp_path / "t.db", 1 << 30)
    assert ids(store) == [f"id {n}" for n in range(int(run.stdout) + 10)]
    store.close()


def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(StoreError, match="does not open as a store") as caught:
        Store(path, LIMIT)
    assert not isinstance(caught.value, StoreFull)
    assert path.read_bytes() == b"something else entirely" * 100
