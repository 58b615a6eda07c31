"""How long events are kept: for some days, as the real service does, and within some bytes.

The newest event of a partition always stays, however old it is: it says where numbers go on after a
restart, so that positions that readers keep never mean another event.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edgekit_sim.iothub.errors import SimulatorError
from edgekit_sim.iothub.events import EventLog
from edgekit_sim.iothub.store import Store

DAYS = 1.0  # that of a new hub of the real service, whose most is 7
MEGABYTES = 4000
SWEEP_SECONDS = 10.0
BATCH = 2000  # events removed in one transaction
_FOR_EVER = 2**62


@dataclass(frozen=True)
class Retention:
    """What is kept of the events.

    Attributes:
        days: for how long.
        size: bytes of all the hub's state, beyond which the oldest events go first.
    """

    days: float = DAYS
    size: int = MEGABYTES * 10**6

    def __post_init__(self) -> None:
        if not 0 < self.days <= 3650:
            raise SimulatorError(f"events cannot be kept for {self.days:g} days")
        if self.size < 10**6:
            raise SimulatorError("a hub needs more room than that", "give it a megabyte at least")


async def expire(
    store: Store,
    logs: Callable[[], Iterable[EventLog]],
    retention: Retention,
    clock: Callable[[], float] = time.time,
) -> None:
    """Remove what is too old or too much.

    Args:
        store: where the logs are.
        logs: gives the logs there are.
        retention: what stays.
        clock: seconds since 1970.
    """
    for log in logs():
        before = int((clock() - retention.days * 86_400) * 1000)
        while log.drop(before, BATCH):
            await store.committed()
    while store.size() > retention.size:
        dropped = [log.drop(_FOR_EVER, BATCH) for log in logs()]
        if not any(dropped):
            return  # it is not the events that are too much
        await store.committed()


async def keep_expiring(
    store: Store, logs: Callable[[], Iterable[EventLog]], retention: Retention
) -> None:
    """Do so now and then, for ever."""
    while True:
        await expire(store, logs, retention)
        await asyncio.sleep(SWEEP_SECONDS)
