"""Messages on their way to blobs: they wait in the store and are written in batches.

A batch gets the name of its blob before it is written, and that is kept, too: a hub that is killed
in between writes the same blob again and none besides. While the blob service is away, messages
wait as long as it takes.
"""

import asyncio
import contextlib
import importlib.util
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from edgekit_sim.iothub.blobs import BlobRefused, find_blob, put_blob
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.events import PARTITIONS, partition_of
from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.registry import Registry
from edgekit_sim.iothub.routing.configuration import StorageContainer
from edgekit_sim.iothub.routing.records import WRITERS, record
from edgekit_sim.iothub.store import Store
from edgekit_sim.iothub.twins import Json, timestamp
from edgekit_sim.iothub.uploads import ENVIRONMENT, SAS_SECONDS, Storage

logger = logging.getLogger(__name__)

RETRY_SECONDS = (1.0, 30.0)  # first and longest pause after a blob that could not be written
PLAN_LIMIT = 100_000  # messages of a blob
_INSERT = "INSERT INTO outbox VALUES (NULL,?,?,?,?,?,?,?,?,'')"
_NO_STORAGE = f"the hub has no storage account: set {ENVIRONMENT} and start it again"


class Archive:
    """All storage endpoints.

    Args:
        store: where messages wait.
        registry: their senders.
        name: the hub's, in names of blobs.
        storage: the account; None when the hub has none.
    """

    def __init__(
        self, store: Store, registry: Registry, name: str, storage: Storage | None
    ) -> None:
        self._store = store
        self._registry = registry
        self._name = name
        self._storage = storage
        self._writers: dict[str, Writer] = {}
        self._running = False

    def check(self, containers: Iterable[StorageContainer]) -> None:
        """Refuse endpoints that could not be written to, or would be lost with what waits in them.

        Raises:
            HubFault: 400 or 409.
        """
        for container in containers:
            if self._storage is None:
                raise HubFault(400, "RoutingInvalid", f"endpoint {container.name!r}: {_NO_STORAGE}")
            if container.encoding == "avro" and importlib.util.find_spec("fastavro") is None:
                raise HubFault(
                    400,
                    "RoutingInvalid",
                    f"endpoint {container.name!r}: Avro needs the package fastavro; install it or"
                    " use the encoding json",
                )
        for name in self._writers.keys() - {container.name for container in containers}:
            if waiting := self._writers[name].waiting():
                raise HubFault(
                    409,
                    "EndpointInUse",
                    f"{waiting} message(s) wait in endpoint {name!r}: take its routes away, and it"
                    " when they are written",
                )

    def use(self, containers: Iterable[StorageContainer]) -> None:
        """Write to these containers from now on."""
        kept, self._writers = self._writers, {}
        for container in containers:
            writer = kept.pop(container.name, None) or self._make(container)
            writer.container = container
            self._writers[container.name] = writer
        for writer in kept.values():
            writer.cancel()

    def _make(self, container: StorageContainer) -> "Writer":
        writer = Writer(self._store, self._registry, self._name, self._storage, container)
        if self._running:
            writer.start()
        return writer

    def collector(self, container: StorageContainer) -> Callable[[Identity, str, bytes, str], None]:
        """What takes messages for a container."""

        def collect(identity: Identity, properties: str, body: bytes, source: str) -> None:
            row = (
                container.name,
                partition_of(identity.device_id),
                time.time_ns() // 1_000_000,
                identity.device_id,
                identity.module_id,
                source,
                properties,
                body,
            )
            self._store.append(_INSERT, row)
            self._writers[container.name].grown(len(body) + len(properties))

        return collect

    def start(self) -> None:
        """Begin to write; first what was left over."""
        self._running = True
        for writer in self._writers.values():
            writer.start()

    async def stop(self) -> None:
        """Write no more; what waits stays in the store."""
        self._running = False
        tasks = [task for writer in self._writers.values() if (task := writer.cancel())]
        await asyncio.gather(*tasks, return_exceptions=True)

    def health(self) -> list[Json]:
        """How the containers are, and how many messages wait for them."""
        return [writer.health() for writer in self._writers.values()]


class Writer:
    """Writes the blobs of one container.

    Attributes:
        container: the endpoint; it may change.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        name: str,
        storage: Storage | None,
        container: StorageContainer,
    ) -> None:
        self.container = container
        self._store = store
        self._registry = registry
        self._name = name
        self._storage = storage
        self._grown = 0
        self._full = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._error = self._failed_at = self._wrote_at = ""

    def start(self) -> None:
        """Write from now on."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self) -> "asyncio.Task[None] | None":
        """Write no more."""
        if self._task is not None:
            self._task.cancel()
        return self._task

    def grown(self, size: int) -> None:
        """So many bytes have been added."""
        self._grown += size
        if self._grown >= self.container.max_chunk_size_in_bytes:
            self._full.set()

    def waiting(self) -> int:
        """How many messages wait."""
        statement = "SELECT count(*) FROM outbox WHERE endpoint = ?"
        ((count,),) = self._store.read(statement, (self.container.name,))
        return int(count)

    def health(self) -> Json:
        """How it is."""
        state = {"endpointId": self.container.name, "waitingMessages": self.waiting()}
        state["healthStatus"] = "unhealthy" if self._error else "healthy"
        if self._error:
            state.update(lastKnownError=self._error, lastKnownErrorTime=self._failed_at)
        if self._wrote_at:
            state["lastSuccessfulSendAttemptTime"] = self._wrote_at
        return state

    async def _run(self) -> None:
        pause, longest = RETRY_SECONDS
        while True:
            try:
                await self._write_all()
            except BlobRefused as error:
                self._error, self._failed_at = str(error), timestamp()
                logger.warning("endpoint %s: %s", self.container.name, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)
                continue
            pause = RETRY_SECONDS[0]
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), self.container.batch_frequency_in_seconds)
            self._full.clear()

    async def _write_all(self) -> None:
        """Write what was planned, then plan and write the rest.

        Raises:
            BlobRefused: the blob service is away, or the container.
        """
        self._grown = 0
        statement = "SELECT DISTINCT blob FROM outbox WHERE endpoint = ? AND blob > ''"
        for (blob,) in self._store.read(statement, (self.container.name,)):
            await self._write(blob)
        for partition in range(PARTITIONS):
            for last in self._batches(partition):
                blob = await self._free_name(partition)
                plan = "UPDATE outbox SET blob = ? WHERE endpoint = ? AND blob = '' AND"
                plan += " partition = ? AND id <= ?"
                self._store.write(plan, (blob, self.container.name, partition, last))
                await self._store.committed()
                await self._write(blob)
        self._error = ""

    def _batches(self, partition: int) -> Iterator[int]:
        """The last ids of the batches that wait in a partition."""
        size = last = 0
        statement = (
            "SELECT id, length(body) + length(properties) FROM outbox"
            " WHERE endpoint = ? AND blob = '' AND partition = ? ORDER BY id LIMIT ?"
        )
        rows = self._store.read(statement, (self.container.name, partition, PLAN_LIMIT))
        for number, length in rows:
            if last and size + length > self.container.max_chunk_size_in_bytes:
                yield last
                size = 0
            last, size = number, size + length
        if last:
            yield last

    async def _free_name(self, partition: int) -> str:
        """A name as the format says, with a number where there is such a blob already."""
        now = time.gmtime()
        name = self.container.file_name_format.replace("{iothub}", self._name)
        name = name.replace("{partition}", str(partition))
        for placeholder, code in _TIMES:
            name = name.replace(placeholder, time.strftime(code, now))
        stem, dot, suffix = name.rpartition(".")
        if not dot or "/" in suffix:
            stem, dot, suffix = name, "", ""
        number = 0
        while await find_blob(self._url(name)) is not None:
            number += 1
            name = f"{stem}_{number}{dot}{suffix}"
        return name

    async def _write(self, blob: str) -> None:
        statement = (
            "SELECT enqueued, device_id, module_id, source, properties, body FROM outbox"
            " WHERE endpoint = ? AND blob = ? ORDER BY id"
        )
        key: tuple[Any, ...] = (self.container.name, blob)
        rows = self._store.read(statement, key)
        records = [record(row, self._registry) for row in rows]
        write = WRITERS[self.container.encoding]
        content = await asyncio.get_running_loop().run_in_executor(None, write, records)
        await put_blob(self._url(blob), content)
        self._wrote_at = timestamp()
        self._store.write("DELETE FROM outbox WHERE endpoint = ? AND blob = ?", key)
        await self._store.committed()

    def _url(self, blob: str) -> str:
        if self._storage is None:
            raise BlobRefused(_NO_STORAGE)
        storage = replace(self._storage, container=self.container.container_name)
        signature = storage.signature(blob, time.time() + SAS_SECONDS)
        return f"{storage.endpoint}/{storage.container}/{quote(blob)}?{signature}"


_TIMES = (("{YYYY}", "%Y"), ("{MM}", "%m"), ("{DD}", "%d"), ("{HH}", "%H"), ("{mm}", "%M"))
