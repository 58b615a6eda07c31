"""Notices for the service side: what became of commands, and files that devices have uploaded.

A receiver gets notices under a lock. It completes them, and they are gone, or gives them back; a
lock that is kept too long is lost. What nobody completes in time, or after too many attempts, ends.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.store import Store
from edgekit_sim.iothub.twins import Json

LIVES_SECONDS = 3600.0
DELIVERIES = 10  # attempts
LOCK_SECONDS = 60.0
_SAVE = "INSERT OR REPLACE INTO notices VALUES (?,?,?,?,?)"
_DELETE = "DELETE FROM notices WHERE kind = ? AND id = ?"


@dataclass
class _Notice:
    id: int
    document: Json
    expires: float
    deliveries: int
    lock: str = ""
    locked_until: float = 0.0


@dataclass(frozen=True)
class Delivery:
    """Notices for one receiver.

    Attributes:
        lock: under which it holds them.
        documents: one or more, in order.
    """

    lock: str
    documents: list[Json]


class Notices:
    """Notices of one kind.

    Args:
        store: where they are kept.
        kind: which.
        together: how many a receiver gets at most in one delivery.

    Attributes:
        on_new: called when there is something to receive.
    """

    def __init__(self, store: Store, kind: str, together: int = 1) -> None:
        self._store = store
        self._kind = kind
        self._together = together
        self._notices: dict[int, _Notice] = {}
        self._last = 0
        self.on_new: list[Callable[[], None]] = []
        statement = "SELECT id, document, expires, deliveries FROM notices WHERE kind = ?"
        for number, document, expires, deliveries in store.read(
            statement + " ORDER BY id", (kind,)
        ):
            notice = _Notice(number, orjson.loads(document), expires, deliveries)
            self._notices[number] = notice
            self._last = number

    def put(self, document: Json) -> None:
        """Add a notice."""
        self._last += 1
        notice = _Notice(self._last, document, time.time() + LIVES_SECONDS, 0)
        self._notices[notice.id] = notice
        self._save(notice)
        self._tell()

    def receive(self) -> Delivery | None:
        """The next notices, locked for a receiver; None when there are none."""
        now = time.time()
        for notice in list(self._notices.values()):
            free = notice.locked_until <= now
            if free and (notice.expires <= now or notice.deliveries >= DELIVERIES):
                self._drop(notice)
        free_ones = [one for one in self._notices.values() if one.locked_until <= now]
        taken = free_ones[: self._together]
        if not taken:
            return None
        lock = str(uuid.uuid4())
        for notice in taken:
            notice.lock, notice.locked_until = lock, now + LOCK_SECONDS
            notice.deliveries += 1
            self._save(notice)
        return Delivery(lock, [notice.document for notice in taken])

    def complete(self, lock: str) -> None:
        """The receiver has dealt with what it holds.

        Raises:
            HubFault: 412, when it does not hold that lock (any more).
        """
        for notice in self._held(lock):
            self._drop(notice)

    def abandon(self, lock: str) -> None:
        """The receiver gives back what it holds.

        Raises:
            HubFault: 412, when it does not hold that lock (any more).
        """
        for notice in self._held(lock):
            notice.lock, notice.locked_until = "", 0.0
        self._tell()

    def _held(self, lock: str) -> list[_Notice]:
        held = [one for one in self._notices.values() if lock and one.lock == lock]
        if not held:
            raise HubFault(412, "DeviceMessageLockLost", f"no {self._kind} is held under that lock")
        return held

    def _tell(self) -> None:
        for listener in self.on_new:
            listener()

    def _save(self, notice: _Notice) -> None:
        document = orjson.dumps(notice.document)
        row = (self._kind, notice.id, document, notice.expires, notice.deliveries)
        self._store.write(_SAVE, row)

    def _drop(self, notice: _Notice) -> None:
        del self._notices[notice.id]
        self._store.write(_DELETE, (self._kind, notice.id))
