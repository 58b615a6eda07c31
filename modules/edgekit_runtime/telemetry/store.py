"""Messages on disk until the hub has them.

SQLite in WAL mode with `synchronous=FULL`: a commit returns after the log is synced, a torn tail is
cut by the log's own checksums, and the counters change in the same transaction as the messages.
docs/decisions/telemetry-store.md has the measurements behind the choice.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgekit_runtime.errors import StoreError, StoreFull
from edgekit_runtime.settings import POLICIES

SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
    position INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice, also not after a delete
    id TEXT NOT NULL,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO counter VALUES ('stored', 0), ('uploaded', 0), ('dropped', 0),
    ('buffered', 0), ('bytes', 0);
"""
OVERHEAD = 64  # bytes of a row beside id, topic and payload, rounded up
SIZE = f"length(CAST(id AS BLOB)) + length(CAST(topic AS BLOB)) + length(payload) + {OVERHEAD}"
# what SQLite says where the disk, a quota or RLIMIT_FSIZE leaves no room
NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)


@dataclass(frozen=True)
class Message:
    """What the agent keeps: an id that stays the same over resends, a topic, the payload."""

    id: str
    topic: str
    payload: bytes

    @property
    def size(self) -> int:
        """Bytes it counts for against the store's limit."""
        return len(self.id.encode()) + len(self.topic.encode()) + len(self.payload) + OVERHEAD


@dataclass(frozen=True)
class Kept(Message):
    """A message in the store, at a position that only grows."""

    position: int


@dataclass(frozen=True)
class Counts:
    """What happened to all messages ever handed over.

    A message refused at the door counts as dropped and not as stored.

    Attributes:
        bytes: what the buffered messages count for against the limit.
    """

    stored: int
    uploaded: int
    dropped: int
    buffered: int
    bytes: int


class Store:
    """A queue on disk. Every method may be called from any thread.

    Args:
        path: the database file; its folder must exist.
        limit: bytes that messages may take.
        policy: `drop-oldest` makes room by dropping, `refuse` turns new messages away.

    Raises:
        StoreError: the file does not open or is no store.
    """

    def __init__(self, path: Path, limit: int, policy: str = "drop-oldest") -> None:
        if policy not in POLICIES:
            raise StoreError(f"no policy {policy!r}", f"use one of {', '.join(POLICIES)}")
        self._path = path
        self._limit = limit
        self._policy = policy
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(SCHEMA)
        except sqlite3.Error as error:
            raise StoreError(
                f"{path} does not open as a store: {error}", "move the file away and restart"
            ) from error

    def close(self) -> None:
        """Close the file; nothing is lost without it."""
        with self._lock:
            self._db.close()

    def append(self, messages: Sequence[Message]) -> int:
        """Keep a group of messages with one sync; on disk when this returns.

        Returns:
            How many messages were dropped or refused to stay below the limit.

        Raises:
            StoreFull: the disk has no room; nothing of the group was kept.
        """
        with self._transaction():
            lost = 0
            room = self._limit - self._count("bytes")
            wanted = sum(message.size for message in messages)
            if wanted > room and self._policy == "drop-oldest":
                lost += self._drop(wanted - room)
                room = self._limit - self._count("bytes")
            accepted, refused = _fitting(messages, room, newest=self._policy == "drop-oldest")
            self._db.executemany(
                "INSERT INTO message (id, topic, payload) VALUES (?, ?, ?)",
                ((message.id, message.topic, message.payload) for message in accepted),
            )
            self._add("stored", len(accepted))
            self._add("buffered", len(accepted))
            self._add("bytes", sum(message.size for message in accepted))
            self._add("dropped", refused)
        return lost + refused

    def refuse(self, number: int) -> None:
        """Count messages that can never be uploaded as dropped."""
        with self._transaction():
            self._add("dropped", number)

    def read(self, after: int, number: int) -> list[Kept]:
        """The oldest messages behind a position, at most `number`."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id, topic, payload, position FROM message WHERE position > ? "
                "ORDER BY position LIMIT ?",
                (after, number),
            ).fetchall()
        return [Kept(*row) for row in rows]

    def confirm(self, position: int) -> None:
        """Forget every message up to `position`: the hub has it."""
        with self._transaction():
            self._add("uploaded", self._forget(position))

    def counts(self) -> Counts:
        """The counters, as they are on disk."""
        with self._lock:
            return Counts(**dict(self._db.execute("SELECT name, value FROM counter")))

    # inside a transaction

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                if error.sqlite_errorcode in NO_ROOM:
                    raise StoreFull(
                        f"no room for {self._path}", "free space on its disk"
                    ) from error
                raise StoreError(f"{self._path}: {error}", "check its disk") from error
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        if self._db.in_transaction:  # on a full disk SQLite has rolled back itself
            self._db.execute("ROLLBACK")

    def _count(self, name: str) -> int:
        row = self._db.execute("SELECT value FROM counter WHERE name = ?", (name,)).fetchone()
        return int(row[0])

    def _add(self, name: str, number: int) -> None:
        if number:
            self._db.execute("UPDATE counter SET value = value + ? WHERE name = ?", (number, name))

    def _drop(self, wanted: int) -> int:
        """Drop the oldest messages until `wanted` bytes are free, or none is left."""
        last = 0
        for position, size in self._db.execute(
            f"SELECT position, {SIZE} FROM message ORDER BY position"  # noqa: S608 a constant
        ):
            last, wanted = position, wanted - size
            if wanted <= 0:
                break
        dropped = self._forget(last)
        self._add("dropped", dropped)
        return dropped

    def _forget(self, position: int) -> int:
        number, size = self._db.execute(
            f"SELECT count(*), coalesce(sum({SIZE}), 0) FROM message "  # noqa: S608 a constant
            "WHERE position <= ?",
            (position,),
        ).fetchone()
        self._db.execute("DELETE FROM message WHERE position <= ?", (position,))
        self._add("buffered", -number)
        self._add("bytes", -size)
        return int(number)


def _fitting(messages: Sequence[Message], room: int, *, newest: bool) -> tuple[list[Message], int]:
    """The newest or the oldest messages that fit into `room` bytes, and how many do not."""
    kept: list[Message] = []
    ordered: Iterable[Message] = reversed(messages) if newest else messages
    for message in ordered:
        if message.size > room:
            break
        room -= message.size
        kept.append(message)
    if newest:
        kept.reverse()
    return kept, len(messages) - len(kept)


def open_store(folder: Path, limit: int, policy: str) -> Store:
    """Open the store in a state folder, made where it is missing.

    Raises:
        StoreError: the folder cannot be made, or the store does not open.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be made: {error.strerror}", "set EDGEKIT_STATE to a folder of ours"
        ) from error
    return Store(folder / "telemetry.db", limit, policy)
