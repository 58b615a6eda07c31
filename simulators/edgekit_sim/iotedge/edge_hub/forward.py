"""Messages on their way through the device: kept until their receiver has them, or for too long."""

import time
from dataclasses import dataclass

from edgekit_sim.iotedge.edge_hub.routes import UPSTREAM, EdgeRoute
from edgekit_sim.iothub.store import Store

SCHEMA = """
CREATE TABLE IF NOT EXISTS forward (
    id INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT NOT NULL, receiver TEXT NOT NULL,
    priority INTEGER NOT NULL, expires REAL NOT NULL, module TEXT NOT NULL,
    properties TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS forward_by_receiver ON forward (receiver, priority, id);
"""
_INSERT = "INSERT INTO forward VALUES (NULL,?,?,?,?,?,?,?)"


@dataclass(frozen=True)
class Waiting:
    """A message that waits.

    Attributes:
        id: its number.
        sink: `$upstream` or `NAME/INPUT`.
        module: who sent it.
        properties: percent-encoded pairs, as in an MQTT topic.
        body: the payload.
    """

    id: int
    sink: str
    module: str
    properties: str
    body: bytes


def upstream(module: str) -> str:
    """The receiver of what a module sends to the hub: each goes over a connection of its own."""
    return f"{UPSTREAM}/{module}"


class Forward:
    """All messages on their way.

    Args:
        store: where they are kept; its `start` has not been called yet.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._gone: set[int] = set()  # done with, and perhaps still on disk
        store.define(SCHEMA)

    def put(self, route: EdgeRoute, module: str, properties: str, body: bytes) -> None:
        """Queue a message for the disk."""
        to_hub = route.sink == UPSTREAM
        receiver = upstream(module) if to_hub else route.sink.partition("/")[0]
        expires = time.time() + route.seconds
        row = (route.sink, receiver, route.priority, expires, module, properties, body)
        self._store.append(_INSERT, row)

    def waiting(self, receiver: str, limit: int) -> list[Waiting]:
        """The first messages for a module, or for the hub from one, the most urgent first."""
        rows = self._store.read(
            "SELECT id, sink, module, properties, body FROM forward"
            " WHERE receiver = ? AND expires > ? ORDER BY priority, id LIMIT ?",
            (receiver, time.time(), limit + len(self._gone)),
        )
        return [Waiting(*row) for row in rows if row[0] not in self._gone][:limit]

    def senders(self) -> set[str]:
        """The modules with messages that wait for the hub."""
        statement = "SELECT DISTINCT module FROM forward WHERE sink = ?"
        return {module for (module,) in self._store.read(statement, (UPSTREAM,))}

    def kept(self, numbers: set[int]) -> set[int]:
        """Those of some messages that are still kept."""
        if not numbers:
            return set()
        between = (min(numbers), max(numbers))
        rows = self._store.read("SELECT id FROM forward WHERE id BETWEEN ? AND ?", between)
        return numbers & {number for (number,) in rows}

    def done(self, number: int) -> None:
        """A receiver has a message."""
        self._gone.add(number)
        self._store.write("DELETE FROM forward WHERE id = ?", (number,))

    def expire(self) -> None:
        """Forget what has waited for too long."""
        self._gone = self.kept(self._gone)
        now = time.time()
        if self._store.read("SELECT 1 FROM forward WHERE expires <= ? LIMIT 1", (now,)):
            self._store.write("DELETE FROM forward WHERE expires <= ?", (now,))
