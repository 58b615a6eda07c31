"""Jobs: a twin update or a method for all devices a condition finds, and import and export.

Jobs run in the hub's process and are kept in its store; one that was running when the hub was
killed begins anew when it is started, as both kinds of work can be done twice.
"""

import asyncio
import contextlib
import datetime
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from edgekit_sim.iothub import query
from edgekit_sim.iothub.blobs import BlobRefused, get_blob, put_blob
from edgekit_sim.iothub.bulk import carry_out, export_entry
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.identities import Identity, check_id
from edgekit_sim.iothub.methods import Methods
from edgekit_sim.iothub.registry import Registry
from edgekit_sim.iothub.store import Store
from edgekit_sim.iothub.twins import Json, timestamp

logger = logging.getLogger(__name__)

PARALLEL = 20  # devices a job works on at a time
LONGEST_SECONDS = 48 * 3600
UPDATE_TWIN, METHOD, EXPORT, IMPORT = (
    "scheduleUpdateTwin",
    "scheduleDeviceMethod",
    "export",
    "import",
)
OVER = ("completed", "failed", "cancelled")


class Jobs:
    """All jobs.

    Args:
        store: where they are kept.
        registry: the devices they work on.
        methods: how devices are called.
    """

    def __init__(self, store: Store, registry: Registry, methods: Methods) -> None:
        self._store = store
        self._registry = registry
        self._methods = methods
        self._jobs: dict[str, Json] = {}
        self._parts: dict[str, dict[str, Json]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        for (text,) in store.read("SELECT document FROM jobs"):
            job = orjson.loads(text)
            self._jobs[job["jobId"]] = job

    def start(self) -> None:
        """Go on with what was not over when the hub ended."""
        for job in self._jobs.values():
            if job["status"] not in OVER:
                self._begin(job)

    async def stop(self) -> None:
        """Leave all jobs as they are."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def get(self, job_id: str) -> Json:
        """A job.

        Raises:
            HubFault: 404.
        """
        if job_id not in self._jobs:
            raise HubFault(404, "JobNotFound", f"there is no job {job_id!r}")
        return self._jobs[job_id]

    def all(self, kinds: tuple[str, ...]) -> list[Json]:
        """Jobs of some kinds, in the order they were made."""
        return [job for job in self._jobs.values() if job["type"] in kinds]

    def parts(self) -> list[Json]:
        """What jobs did on single devices: the documents of `devices.jobs`."""
        return [part for parts in self._parts.values() for part in parts.values()]

    def schedule(self, job_id: str, document: Json) -> Json:
        """Make a job of a twin update or a method.

        Raises:
            HubFault: 400 or 409.
        """
        check_id(job_id, "jobId")
        if job_id in self._jobs:
            raise HubFault(409, "JobAlreadyExists", f"there is a job {job_id!r}")
        kind = document.get("type")
        needed = {UPDATE_TWIN: "updateTwin", METHOD: "cloudToDeviceMethod"}
        if kind not in needed or not isinstance(document.get(needed[kind]), dict):
            raise HubFault(400, "ArgumentInvalid", f"type {kind!r}, or what it needs, is missing")
        condition = str(document.get("queryCondition") or "*")
        query.parse_condition(condition)
        longest = document.get("maxExecutionTimeInSeconds") or 3600
        if not isinstance(longest, int) or not 0 < longest <= LONGEST_SECONDS:
            raise HubFault(400, "ArgumentInvalid", "maxExecutionTimeInSeconds is out of range")
        job = {
            "jobId": job_id,
            "type": kind,
            needed[kind]: document[needed[kind]],
            "queryCondition": condition,
            "createdTime": timestamp(),
            "startTime": document.get("startTime") or timestamp(),
            "maxExecutionTimeInSeconds": longest,
            "status": "queued",
        }
        if _wait(job["startTime"]) > 0:
            job["status"] = "scheduled"
        return self._make(job)

    def transfer(self, job_id: str, document: Json) -> Json:
        """Make a job of an import or export, to or from a blob container named by a SAS URI.

        Raises:
            HubFault: 400.
        """
        kind = document.get("type")
        name = "outputBlobContainerUri" if kind == EXPORT else "inputBlobContainerUri"
        if kind not in (EXPORT, IMPORT) or not str(document.get(name) or "").startswith("http"):
            raise HubFault(400, "ArgumentInvalid", f"type {kind!r}, or its {name}, is missing")
        kept = {key: value for key, value in document.items() if value is not None}
        job = {**kept, "jobId": job_id, "startTimeUtc": timestamp(), "status": "enqueued"}
        return self._make({**job, "progress": 0})

    def cancel(self, job_id: str) -> Json:
        """End a job before its time.

        Raises:
            HubFault: 404; 400 when it is over.
        """
        job = self.get(job_id)
        if job["status"] in OVER:
            raise HubFault(400, "JobCancelled", f"job {job_id!r} is {job['status']}")
        task = self._tasks.pop(job_id, None)
        if task is not None:
            task.cancel()
        self._set(job, status="cancelled")
        return job

    # ---- running

    def _make(self, job: Json) -> Json:
        self._jobs[job["jobId"]] = job
        self._save(job)
        self._begin(job)
        return job

    def _begin(self, job: Json) -> None:
        task = asyncio.get_running_loop().create_task(self._run(job))
        self._tasks[job["jobId"]] = task
        task.add_done_callback(lambda _task: self._tasks.pop(job["jobId"], None))

    def _save(self, job: Json) -> None:
        row = (job["jobId"], orjson.dumps(job))
        self._store.write("INSERT OR REPLACE INTO jobs VALUES (?,?)", row)

    def _set(self, job: Json, **changes: Any) -> None:
        job.update(changes)
        if changes.get("status") in OVER:
            job["endTimeUtc" if job["type"] in (EXPORT, IMPORT) else "endTime"] = timestamp()
        self._save(job)

    async def _run(self, job: Json) -> None:
        work = {
            UPDATE_TWIN: self._on_devices,
            METHOD: self._on_devices,
            EXPORT: self._export,
            IMPORT: self._import,
        }[job["type"]]
        try:
            await asyncio.sleep(max(0.0, _wait(job.get("startTime"))))
            self._set(job, status="running")
            await asyncio.wait_for(work(job), job.get("maxExecutionTimeInSeconds", LONGEST_SECONDS))
            self._set(job, status="completed")
        except TimeoutError:
            self._set(job, status="failed", failureReason="it took too long")
        except (HubFault, BlobRefused, ValueError) as error:
            self._set(job, status="failed", failureReason=str(error))

    async def _on_devices(self, job: Json) -> None:
        _, node = query.parse_condition(job["queryCondition"])
        matches = query.compile_condition(node)
        devices = [device for device in self._registry.devices() if matches(device)]
        counts = dict.fromkeys(("failedCount", "succeededCount", "runningCount"), 0)
        statistics = {"deviceCount": len(devices), **counts, "pendingCount": len(devices)}
        self._set(job, deviceJobStatistics=statistics)
        act = self._update_twin if job["type"] == UPDATE_TWIN else self._call
        gate = asyncio.Semaphore(PARALLEL)
        await asyncio.gather(*(self._on_one(job, device, act, gate) for device in devices))

    async def _on_one(
        self,
        job: Json,
        device: Identity,
        act: Callable[[Json, Identity], Awaitable[Json]],
        gate: asyncio.Semaphore,
    ) -> None:
        statistics = job["deviceJobStatistics"]
        part = {
            "jobId": job["jobId"],
            "deviceId": device.device_id,
            "jobType": job["type"],
            "createdDateTimeUtc": timestamp(),
        }
        self._parts.setdefault(job["jobId"], {})[device.device_id] = part
        async with gate:
            statistics["pendingCount"] -= 1
            statistics["runningCount"] += 1
            part.update(status="running", startTimeUtc=timestamp())
            try:
                part.update(await act(job, device), status="completed")
                statistics["succeededCount"] += 1
            except HubFault as fault:
                part.update(status="failed", error={"code": fault.code, "description": str(fault)})
                statistics["failedCount"] += 1
            finally:
                statistics["runningCount"] -= 1
                part["endTimeUtc"] = part["lastUpdatedDateTimeUtc"] = timestamp()

    async def _update_twin(self, job: Json, device: Identity) -> Json:
        document = job["updateTwin"]
        self._registry.change_twin(device, document, document.get("etag"), replace=False)
        await self._store.committed()
        return {}

    async def _call(self, job: Json, device: Identity) -> Json:
        response = await self._methods.invoke(device, job["cloudToDeviceMethod"])
        return {"outcome": {"deviceMethodResponse": response}}

    async def _export(self, job: Json) -> None:
        with_keys = not job.get("excludeKeysInExport")
        identities = [*self._registry.devices(), *self._registry.modules()]
        lines = [orjson.dumps(export_entry(identity, with_keys)) for identity in identities]
        name = job.get("outputBlobName") or "devices.txt"
        url = _blob(job["outputBlobContainerUri"], name)
        await put_blob(url, b"\n".join(lines))
        self._set(job, progress=100, outputBlobName=name)

    async def _import(self, job: Json) -> None:
        name = job.get("inputBlobName") or "devices.txt"
        url = _blob(job["inputBlobContainerUri"], name)
        lines = (await get_blob(url)).splitlines()
        entries = [orjson.loads(line) for line in lines if line.strip()]
        errors = carry_out(self._registry, entries)
        await self._store.committed()
        self._set(job, progress=100)
        if errors:
            raise ValueError(f"{len(errors)} of {len(entries)} entries failed: {errors[0]}")


def _blob(container: str, name: str) -> str:
    address, _, token = container.partition("?")
    return f"{address.rstrip('/')}/{name}?{token}"


def _wait(start: Any) -> float:
    """Seconds until a time in ISO 8601; 0 when it is none."""
    with contextlib.suppress(ValueError, TypeError):
        moment = datetime.datetime.fromisoformat(str(start))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        return moment.timestamp() - datetime.datetime.now(datetime.UTC).timestamp()
    return 0.0
