"""What the broker keeps: sessions, subscriptions, queued and retained messages, in SQLite.

Everything written since the last commit is committed together; who waits for it to be on disk is
told then. One sync so carries many messages.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from edgekit_sim.iotedge.mqtt_broker.topics import matches

SCHEMA = """
CREATE TABLE IF NOT EXISTS session (client TEXT PRIMARY KEY, clean INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS subscription (
    client TEXT NOT NULL, filter TEXT NOT NULL, qos INTEGER NOT NULL, PRIMARY KEY (client, filter)
);
CREATE TABLE IF NOT EXISTS queued (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    client TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL, retained INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS queued_client ON queued (client, position);
CREATE TABLE IF NOT EXISTS retained (topic TEXT PRIMARY KEY, payload BLOB NOT NULL);
"""
OF_CLIENT = ("session", "subscription", "queued")

Queued = tuple[int, str, bytes, bool]


class Sessions:
    """The broker's memory.

    Args:
        path: the database.
    """

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(SCHEMA)
        self._waiting: list[Callable[[], None]] = []
        self._filters: dict[str, dict[str, int]] = {}
        for (client,) in self._db.execute("SELECT client FROM session WHERE clean").fetchall():
            self.forget(client)
        self.commit()
        for client, text, qos in self._db.execute("SELECT * FROM subscription"):
            self._filters.setdefault(client, {})[text] = qos

    def close(self) -> None:
        """Commit and close."""
        self.commit()
        self._db.close()

    def when_on_disk(self, told: Callable[[], None]) -> None:
        """Call `told` after the next commit."""
        self._waiting.append(told)

    def commit(self) -> None:
        """Put everything on disk and tell who waits."""
        if self._db.in_transaction:
            self._db.execute("COMMIT")
        waiting, self._waiting = self._waiting, []
        for told in waiting:
            told()

    def _write(self, statement: str, *values: object) -> None:
        if not self._db.in_transaction:
            self._db.execute("BEGIN")
        self._db.execute(statement, values)

    def open(self, client: str, clean: bool) -> bool:
        """Begin or go on with a session; says whether there was one to go on with."""
        row = self._db.execute("SELECT clean FROM session WHERE client = ?", (client,)).fetchone()
        present = row is not None and not row[0] and not clean
        if not present:
            self.forget(client)
        self._write("INSERT OR REPLACE INTO session VALUES (?, ?)", client, clean)
        return present

    def forget(self, client: str) -> None:
        """End a session for good."""
        for table in OF_CLIENT:
            self._write(f"DELETE FROM {table} WHERE client = ?", client)  # noqa: S608 constants
        self._filters.pop(client, None)

    def subscribe(self, client: str, text: str, qos: int) -> None:
        """Add a subscription, or change its QoS."""
        self._filters.setdefault(client, {})[text] = qos
        self._write("INSERT OR REPLACE INTO subscription VALUES (?, ?, ?)", client, text, qos)

    def unsubscribe(self, client: str, text: str) -> None:
        """Remove a subscription."""
        self._filters.get(client, {}).pop(text, None)
        self._write("DELETE FROM subscription WHERE client = ? AND filter = ?", client, text)

    def subscribers(self, topic: str) -> Iterator[tuple[str, int]]:
        """The clients that take a topic, each once, with the highest QoS they asked for it."""
        for client, filters in self._filters.items():
            granted = [qos for text, qos in filters.items() if matches(text, topic)]
            if granted:
                yield client, max(granted)

    def queue(self, client: str, topic: str, payload: bytes, retained: bool = False) -> None:
        """Add a QoS 1 message to a client's queue."""
        self._write(
            "INSERT INTO queued (client, topic, payload, retained) VALUES (?, ?, ?, ?)",
            client,
            topic,
            payload,
            retained,
        )

    def queued(self, client: str, after: int, number: int) -> list[Queued]:
        """A client's oldest messages behind a position."""
        rows: list[Queued] = self._db.execute(
            "SELECT position, topic, payload, retained FROM queued "
            "WHERE client = ? AND position > ? ORDER BY position LIMIT ?",
            (client, after, number),
        ).fetchall()
        return rows

    def acknowledged(self, position: int) -> None:
        """Forget a message that its client has."""
        self._write("DELETE FROM queued WHERE position = ?", position)

    def retain(self, topic: str, payload: bytes) -> None:
        """Keep the last message of a topic; an empty one ends that."""
        if payload:
            self._write("INSERT OR REPLACE INTO retained VALUES (?, ?)", topic, payload)
        else:
            self._write("DELETE FROM retained WHERE topic = ?", topic)

    def retained(self, text: str) -> Iterable[tuple[str, bytes]]:
        """The retained messages that a filter takes."""
        rows = self._db.execute("SELECT topic, payload FROM retained").fetchall()
        return [(topic, payload) for topic, payload in rows if matches(text, topic)]
