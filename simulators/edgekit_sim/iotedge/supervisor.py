"""Brings a device's modules to what the deployment wants, and keeps them there.

The plan says what to remove and what to start; carrying it out is another step. Restarting follows
edgeAgent: a policy decides whether, a doubling pause decides when.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from edgekit_sim.iotedge.desired import Desired, DesiredModule
from edgekit_sim.iotedge.engine import Engine, Launch
from edgekit_sim.iotedge.errors import DeviceError, ModuleFailed

log = logging.getLogger(__name__)

DOUBLINGS = 5  # the longest pause is 32 times the first
STEADY = 60.0  # seconds of running after which the pauses start over

Prepare = Callable[[DesiredModule], Awaitable[Launch]]
Forget = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class Plan:
    """What has to happen to reach a deployment.

    Attributes:
        remove: modules that are no longer wanted, or in another form.
        start: modules to start, in start-up order.
        keep: modules whose container stays as it is; their policies may have changed.
    """

    remove: tuple[str, ...]
    start: tuple[DesiredModule, ...]
    keep: tuple[DesiredModule, ...]


def plan(current: Mapping[str, DesiredModule], desired: Desired) -> Plan:
    """Compare what is with what shall be."""
    wanted = {module.name: module for module in desired.modules}
    replaced = {
        name
        for name, module in wanted.items()
        if name in current and module.replaces(current[name])
    }
    return Plan(
        remove=tuple(name for name in current if name not in wanted or name in replaced),
        start=tuple(m for m in desired.modules if m.name not in current or m.name in replaced),
        keep=tuple(m for m in desired.modules if m.name in current and m.name not in replaced),
    )


@dataclass
class Module:
    """One module as it is.

    Attributes:
        runtime_status: as edgeAgent reports it: running, stopped, failed, backoff.
        due: when a restart is due, by the monotonic clock; None while none is.
        failures: ends in a row, each soon after its start; sets the pause.
        started: when it was started last, by the monotonic clock.
    """

    desired: DesiredModule
    runtime_status: str = "stopped"
    description: str = ""
    exit_code: int = 0
    restart_count: int = 0
    last_start: str = ""
    last_exit: str = ""
    last_restart: str = ""
    due: float | None = None
    failures: int = 0
    started: float = 0.0

    def report(self) -> dict[str, Any]:
        """The module in the reported properties of `$edgeAgent`."""
        return {
            "type": "docker",
            "status": self.desired.status,
            "restartPolicy": self.desired.restart_policy,
            "imagePullPolicy": self.desired.pull_policy,
            "version": self.desired.version,
            "settings": dict(self.desired.settings),
            "env": {name: {"value": value} for name, value in self.desired.environment.items()},
            "exitCode": self.exit_code,
            "statusDescription": self.description,
            "lastStartTimeUtc": self.last_start or None,
            "lastExitTimeUtc": self.last_exit or None,
            "restartCount": self.restart_count,
            "lastRestartTimeUtc": self.last_restart or None,
            "runtimeStatus": self.runtime_status,
        }


class Supervisor:
    """Holds the modules of one device.

    Args:
        engine: what runs them; called in threads, one call at a time.
        prepare: makes a module's launch; raises ModuleFailed where it cannot yet.
        forget: told of every module that is gone.
        backoff: seconds of the first pause before a restart.
    """

    def __init__(self, engine: Engine, prepare: Prepare, forget: Forget, backoff: float) -> None:
        self._engine = engine
        self._prepare = prepare
        self._forget = forget
        self._backoff = backoff
        self.modules: dict[str, Module] = {}

    async def apply(self, desired: Desired) -> list[str]:
        """Carry out the plan for a deployment.

        A module whose image is not to be had is left as it is. Calling this again tries what
        failed once more and leaves the rest alone.

        Returns:
            What failed, a sentence for each module.
        """
        steps = plan({name: module.desired for name, module in self.modules.items()}, desired)
        failures, ready = [], []
        for wanted in steps.start:
            try:
                if wanted.pull_policy != "never":
                    await asyncio.to_thread(self._engine.pull, wanted.image)
                ready.append(wanted)
            except ModuleFailed as error:
                failures.append(str(error))
        left = {module.name for module in steps.start} - {module.name for module in ready}
        for name in steps.remove:
            if name not in left:
                await self._remove(name)
        for kept in steps.keep:
            await self._adapt(self.modules[kept.name], kept)
        for wanted in ready:
            module = self.modules[wanted.name] = Module(wanted)
            if wanted.status == "running" and not await self._start(module):
                failures.append(module.description)
        return failures

    async def _remove(self, name: str) -> None:
        del self.modules[name]
        await asyncio.to_thread(self._engine.stop, name)
        await self._forget(name)
        log.info("removed %s", name)

    async def _adapt(self, module: Module, wanted: DesiredModule) -> None:
        """Take over what needs no new container; start or stop it if that is what changed."""
        before, module.desired = module.desired.status, wanted
        if (before, wanted.status) == ("running", "stopped"):
            await asyncio.to_thread(self._engine.stop, wanted.name)
            module.runtime_status, module.due = "stopped", None
        elif (before, wanted.status) == ("stopped", "running"):
            await self._start(module)

    async def _start(self, module: Module) -> bool:
        module.due = None
        try:
            launch = await self._prepare(module.desired)
            await asyncio.to_thread(self._engine.start, launch)
        except DeviceError as error:
            module.description = str(error)
            module.runtime_status = "failed"
            self._schedule(module)
            log.warning("%s", error)
            return False
        module.started, module.last_start = time.monotonic(), _now()
        module.runtime_status, module.description = "running", "running"
        log.info("started %s", module.desired.name)
        return True

    async def watch(self) -> None:
        """Look at every module once: note what ended, restart what is due."""
        for module in list(self.modules.values()):
            if module.desired.status != "running":
                continue
            if module.due is not None:
                if time.monotonic() >= module.due:
                    module.restart_count += 1
                    module.last_restart = _now()
                    await self._start(module)
            elif module.runtime_status == "running":
                state = await asyncio.to_thread(self._engine.state, module.desired.name)
                if state is None or not state.running:
                    self._ended(module, state.exit_code if state else None)

    def _ended(self, module: Module, code: int | None) -> None:
        """Note an end; a code of None means that somebody removed it."""
        module.exit_code = code or 0
        module.last_exit = _now()
        failed = code != 0
        module.runtime_status = "failed" if failed else "stopped"
        module.description = f"exited with {code}" if code is not None else "was removed"
        log.warning("%s %s", module.desired.name, module.description)
        if time.monotonic() - module.started > STEADY:
            module.failures = 0
        policy = module.desired.restart_policy
        if policy == "always" or (failed and policy in ("on-failure", "on-unhealthy")):
            self._schedule(module)

    def _schedule(self, module: Module) -> None:
        pause = self._backoff * 2 ** min(module.failures, DOUBLINGS)
        module.due = time.monotonic() + pause
        module.failures += 1
        module.runtime_status = "backoff"

    async def stop(self) -> None:
        """End every module."""
        await asyncio.to_thread(self._engine.close)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
