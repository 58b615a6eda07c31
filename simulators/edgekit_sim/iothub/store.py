"""What the hub must not forget, in one SQLite file, committed in groups.

The hub's state lives in memory; every change is also queued here. One thread takes all that is
queued, writes it in one transaction, and then reports back to the event loop, which only now sends
the acknowledgements. A message thus costs no thread hop of its own, and nothing is acknowledged
before SQLite has it on disk (write-ahead log, synchronous=FULL).

A full disk is waited for: nothing is acknowledged meanwhile, and what came is written once there is
room. A disk that fails otherwise stops the hub: going on would acknowledge what is not there. After
a restart all that was acknowledged is read back.
"""

import asyncio
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from edgekit_sim.iothub.errors import HubFault

logger = logging.getLogger(__name__)

SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS identities (
    device_id TEXT NOT NULL, module_id TEXT NOT NULL, identity BLOB NOT NULL, twin BLOB NOT NULL,
    PRIMARY KEY (device_id, module_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS configurations (id TEXT PRIMARY KEY, document BLOB NOT NULL)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sessions (client_id TEXT PRIMARY KEY, subscriptions TEXT NOT NULL)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS commands (
    sequence INTEGER PRIMARY KEY, device_id TEXT NOT NULL, document BLOB NOT NULL,
    body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS notices (
    kind TEXT NOT NULL, id INTEGER NOT NULL, document BLOB NOT NULL, expires REAL NOT NULL,
    deliveries INTEGER NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, document BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    sequence INTEGER PRIMARY KEY, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
    enqueued INTEGER NOT NULL, device_id TEXT NOT NULL, module_id TEXT NOT NULL,
    source TEXT NOT NULL, properties TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS events_by_partition ON events (partition, offset);
CREATE TABLE IF NOT EXISTS streams (
    stream TEXT NOT NULL, sequence INTEGER NOT NULL, partition INTEGER NOT NULL,
    offset INTEGER NOT NULL, enqueued INTEGER NOT NULL, device_id TEXT NOT NULL,
    module_id TEXT NOT NULL, source TEXT NOT NULL, properties TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS streams_by_sequence ON streams (stream, sequence);
CREATE INDEX IF NOT EXISTS streams_by_partition ON streams (stream, partition, offset);
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY, endpoint TEXT NOT NULL, partition INTEGER NOT NULL,
    enqueued INTEGER NOT NULL, device_id TEXT NOT NULL, module_id TEXT NOT NULL,
    source TEXT NOT NULL, properties TEXT NOT NULL, body BLOB NOT NULL, blob TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS outbox_by_blob ON outbox (endpoint, blob, partition, id);
"""
# nothing of the transaction is on disk and the file is as it was: it may be tried again
NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
RETRY_SECONDS = 0.5
QUEUE_BYTES = 16 * 1024 * 1024  # of events, after which their senders have to wait
EVENT_BYTES = 300  # what an event takes beside its body and properties


class Acknowledges(Protocol):
    """Whoever waits for an event to be on disk."""

    def acknowledge(self, packet_id: int) -> None:
        """The event sent under `packet_id` is on disk."""

    def flush(self) -> None:
        """The last acknowledgement of this group has been given."""


@dataclass
class _Group:
    """What is written in one transaction, and who waits for it."""

    statements: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    events: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    senders: list[tuple[Acknowledges, int]] = field(default_factory=list)
    actions: list[Callable[[], object]] = field(default_factory=list)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)
    size: int = 0

    def __bool__(self) -> bool:
        return bool(self.statements or self.events or self.senders or self.actions or self.waiting)


class Store:
    """The SQLite file and the thread that writes it.

    Args:
        path: the database file.
        durable: wait for the disk at each commit; False for a hub whose state is thrown away.

    Attributes:
        on_commit: called when new events are on disk.
        full: there is no room on the disk at the moment.
    """

    def __init__(self, path: Path, durable: bool = True) -> None:
        self._path = path
        self._durable = durable
        self._writer = self._connect()
        self._writer.executescript(SCHEMA)
        self._reader = self._connect()
        self.full = False
        self._group = _Group()
        self._writing = _Group()
        self._closing = threading.Event()
        self._groups: queue.SimpleQueue[_Group | None] = queue.SimpleQueue()
        self._idle = True
        self.on_commit: list[Callable[[], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failed: Callable[[Exception], None] = lambda error: logger.error("%s", error)
        self._thread = threading.Thread(target=self._run, name="hub-store", daemon=True)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={'FULL' if self._durable else 'OFF'}")
        connection.execute("PRAGMA busy_timeout=5000")
        return connection

    def define(self, schema: str) -> None:
        """Add the tables of a service that shares this store; before `start`."""
        self._writer.executescript(schema)

    def start(self, failed: Callable[[Exception], None]) -> None:
        """Begin to write; `failed` is called on the event loop when the disk refuses."""
        self._loop = asyncio.get_running_loop()
        self._failed = failed
        self._thread.start()
        self._stir()

    def close(self) -> None:
        """Write what is queued, if there is room, and close the file."""
        self._closing.set()
        if self._thread.is_alive():
            self._groups.put(self._group)
            self._groups.put(None)
            self._thread.join()
        self._writer.close()
        self._reader.close()

    def read(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        """Rows of what has been committed."""
        return self._reader.execute(sql, parameters).fetchall()

    def size(self) -> int:
        """Bytes of the file that are in use; what was removed leaves room in it."""
        (((pages,),), ((free,),), ((size,),)) = (
            self.read(f"PRAGMA {name}") for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def write(self, sql: str, parameters: tuple[Any, ...] = ()) -> None:
        """Queue a statement."""
        self._group.statements.append((sql, parameters))
        self._stir()

    def append(self, insert: str, row: tuple[Any, ...]) -> None:
        """Queue an event: a row for a statement that inserts it."""
        rows = self._group.events.get(insert)
        if rows is None:
            rows = self._group.events[insert] = []
        rows.append(row)
        self._group.size += len(row[-1]) + len(row[-2]) + EVENT_BYTES
        self._stir()

    def acknowledge(self, sender: Acknowledges, packet_id: int) -> None:
        """Tell a sender when what has been queued so far is on disk."""
        self._group.senders.append((sender, packet_id))
        self._stir()

    @property
    def congested(self) -> bool:
        """More events wait than should: no more are to be read for the moment."""
        return self._group.size > QUEUE_BYTES

    def then(self, action: Callable[[], object]) -> None:
        """Call something when everything queued so far is on disk, however long that takes."""
        self._group.actions.append(action)
        self._stir()

    async def committed(self) -> None:
        """Wait until everything queued so far is on disk, however long that takes."""
        done = asyncio.Event()
        self.then(done.set)
        await done.wait()

    async def settled(self) -> None:
        """Wait until every change so far, other than events, is on disk.

        Raises:
            HubFault: 503, when there is no room; the change is written once there is.
        """
        if not self._group.statements and not self._writing.statements:
            return
        self.refuse_when_full()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._group.waiting.append(future)
        self._stir()
        await future

    def refuse_when_full(self) -> None:
        """Take no change that could not be written.

        Raises:
            HubFault: 503, when there is no room.
        """
        if self.full:
            raise _no_room()

    def _stir(self) -> None:
        """Hand the group over once the loop has read all that has arrived meanwhile."""
        if self._idle and self._group and self._loop is not None:
            self._idle = False
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._writing, self._group = self._group, _Group()
        self._groups.put(self._writing)

    def _run(self) -> None:
        while (group := self._groups.get()) is not None:
            try:
                while not self._written(group):
                    if self._closing.wait(RETRY_SECONDS):
                        return
            except sqlite3.Error as error:
                self._tell(self._failed, error)
                return
            self._tell(self._report, group)

    def _tell(self, what: Callable[..., None], *arguments: Any) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            self._loop.call_soon_threadsafe(what, *arguments)

    def _written(self, group: _Group) -> bool:
        """Write a group, all of it or nothing; False when there is no room."""
        try:
            self._commit(group)
        except sqlite3.Error as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            if error.sqlite_errorcode not in NO_ROOM:
                raise
            self._tell(self._run_out, group, error)
            return False
        return True

    def _commit(self, group: _Group) -> None:
        if not group.statements and not group.events:
            return
        self._writer.execute("BEGIN IMMEDIATE")
        for sql, parameters in group.statements:
            self._writer.execute(sql, parameters)
        for insert, rows in group.events.items():
            self._writer.executemany(insert, rows)
        self._writer.execute("COMMIT")

    def _run_out(self, group: _Group, error: sqlite3.Error) -> None:
        """There is no room: whoever can be told so need not wait any longer."""
        if not self.full:
            logger.error(
                "no room for the hub's state in %s (%s): nothing is acknowledged until there is",
                self._path.parent,
                error,
            )
        self.full = True
        for future in group.waiting + self._group.waiting:
            if not future.done():
                future.set_exception(_no_room())
        group.waiting, self._group.waiting = [], []

    def _report(self, group: _Group) -> None:
        if self.full:
            logger.error("there is room again for the hub's state in %s", self._path.parent)
        self.full = False
        self._idle, self._writing = True, _Group()
        self._stir()
        for sender, packet_id in group.senders:
            sender.acknowledge(packet_id)
        for sender in {sender for sender, _ in group.senders}:
            sender.flush()
        for action in group.actions:
            action()
        for future in group.waiting:
            if not future.done():
                future.set_result(None)
        if group.events:
            for listener in self.on_commit:
                listener()


def _no_room() -> HubFault:
    return HubFault(503, "ServiceUnavailable", "the hub's disk is full; try again later")
