"""The agent: takes module outputs from the broker, keeps them, hands them to the uplink.

Three threads: the broker client's, which only collects; the keeper, which commits all that was
collected with one sync and then acknowledges it; the event loop, which uploads and reports.
"""

import asyncio
import logging
import signal
import threading
import uuid
from collections.abc import Callable

import orjson

from edgekit_runtime.broker import Broker, Delivery
from edgekit_runtime.errors import SettingsError, StoreError
from edgekit_runtime.settings import Settings
from edgekit_runtime.telemetry.store import Message, Store, open_store
from edgekit_runtime.telemetry.uplink import LARGEST, Uplink

log = logging.getLogger(__name__)

TOPIC = "edgekit/+/outputs/#"
COLLECTED = 8 << 20  # bytes that may wait for the disk before the broker has to
RETRY = 1.0  # seconds until a full disk is tried again
REPORT = 0.5  # seconds between two looks at what to report


class Keeper(threading.Thread):
    """Commits collected messages in groups and acknowledges each group once it is on disk.

    Args:
        store: where they go.
        on_kept: called in this thread after every group.
    """

    def __init__(self, store: Store, on_kept: Callable[[], None]) -> None:
        super().__init__(name="keeper")
        self._store = store
        self._on_kept = on_kept
        self._collected: list[Delivery] = []
        self._bytes = 0
        self._changed = threading.Condition()
        self._ending = False

    def collect(self, delivery: Delivery) -> None:
        """Take a message from the broker client's thread; waits while too much is waiting."""
        with self._changed:
            self._changed.wait_for(lambda: self._bytes < COLLECTED or self._ending)
            self._collected.append(delivery)
            self._bytes += len(delivery.payload)
            self._changed.notify_all()

    def keep_for(self, broker: Broker) -> None:
        """Start acknowledging to `broker`."""
        self._broker = broker
        self.start()

    def end(self) -> None:
        """Commit what is collected and end; what the disk has no room for stays with the broker."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self.join()

    def run(self) -> None:
        """Commit groups until ended."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._collected or self._ending)
                group, self._collected, self._bytes = self._collected, [], 0
                self._changed.notify_all()
                if not group:
                    return
            self._commit(group)

    def _commit(self, group: list[Delivery]) -> None:
        while True:
            # what an earlier connection brought comes again on this one
            current = [d for d in group if self._broker.is_current(d)]
            try:
                self._keep(current)
                break
            except StoreError as error:
                log.error("%s; %d messages stay with the broker", error, len(current))
            with self._changed:
                if self._changed.wait_for(lambda: self._ending, RETRY):
                    return
        for delivery in current:
            self._broker.acknowledge(delivery)
        self._on_kept()

    def _keep(self, group: list[Delivery]) -> None:
        messages = [message_of(d) for d in group if len(d.payload) <= LARGEST]
        if len(messages) < len(group):
            log.error("dropped %d messages over %d bytes", len(group) - len(messages), LARGEST)
            self._store.refuse(len(group) - len(messages))
        if messages and (lost := self._store.append(messages)):
            log.warning("dropped %d messages at the store's limit", lost)


def message_of(delivery: Delivery) -> Message:
    """The message as it is kept: its id is the payload's, or a new one where that has none."""
    try:
        identity = orjson.loads(delivery.payload).get("id")
    except (orjson.JSONDecodeError, AttributeError):
        identity = None
    if not isinstance(identity, str) or not 0 < len(identity) <= 128:
        identity = uuid.uuid4().hex
    return Message(identity, delivery.topic, delivery.payload)


def run(settings: Settings) -> None:
    """Run the agent until SIGTERM or SIGINT."""
    if settings.broker is None:
        raise SettingsError("EDGEKIT_BROKER is not set", "set it to the broker's host:port")
    store = open_store(settings.state, settings.store_limit, settings.store_policy)
    try:
        asyncio.run(_run(settings, store))
    finally:
        store.close()


async def _run(settings: Settings, store: Store) -> None:
    assert settings.broker is not None
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    uplink = Uplink(store)

    def wake() -> None:
        loop.call_soon_threadsafe(uplink.wake)

    keeper = Keeper(store, wake)
    broker = Broker(f"edgekit-{settings.module}", TOPIC, keeper.collect)
    keeper.keep_for(broker)
    broker.open(settings.broker)
    tasks = [
        asyncio.create_task(uplink.run()),
        asyncio.create_task(_report(store, uplink, broker, settings.module)),
    ]
    await ended.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.to_thread(keeper.end)
    await asyncio.to_thread(broker.close)
    log.info("ended with %d messages buffered", store.counts().buffered)


async def _report(store: Store, uplink: Uplink, broker: Broker, module: str) -> None:
    """Publish the status, retained, whenever it has changed."""
    reported, topic = b"", f"edgekit/{module}/status"
    while True:
        if broker.subscribed.is_set():
            counts = await asyncio.to_thread(store.counts)
            status = orjson.dumps(
                {
                    "stored": counts.stored,
                    "uploaded": counts.uploaded,
                    "buffered": counts.buffered,
                    "dropped": counts.dropped,
                    "connected": uplink.connected,
                }
            )
            if status != reported and not broker.publish(topic, status, retain=True).rc:
                reported = status
        await asyncio.sleep(REPORT)
