"""The runtime of one device: twins in, modules out, status back."""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgekit.oci.signing import Policy
from edgekit.wholefile import whole_file
from edgekit_sim.iotedge.config import ConnectionString, DeviceConfig
from edgekit_sim.iotedge.desired import Desired, DesiredModule, read_desired
from edgekit_sim.iotedge.edge_hub import EdgeHub, read_edge_routes
from edgekit_sim.iotedge.engine import WORKLOAD_IN_MODULE, Engine, Launch
from edgekit_sim.iotedge.engines import open_engine
from edgekit_sim.iotedge.errors import DeploymentRefused, DeviceError, ModuleFailed
from edgekit_sim.iotedge.identities import Identities
from edgekit_sim.iotedge.local_broker import LocalBroker
from edgekit_sim.iotedge.supervisor import Supervisor
from edgekit_sim.iotedge.twin import RuntimeTwin
from edgekit_sim.iotedge.verifying import VerifyingEngine
from edgekit_sim.iotedge.workload import SOCKET, Workload
from edgekit_sim.lifeline import Lifeline

log = logging.getLogger(__name__)

LOOK = 0.25  # seconds between two looks at the modules
RETRY = 5.0  # seconds until a deployment that failed in part is tried again
API_VERSION = "2019-01-30"  # of the workload API, as edgelet tells modules
STATUS_FILE = "status.json"

OnStatus = Callable[[Mapping[str, Any]], None]


class EdgeRuntime:
    """One device.

    Args:
        config: its configuration.
        lifeline: what everything it starts ends with.
        on_status: told of every change of the status.
    """

    def __init__(self, config: DeviceConfig, lifeline: Lifeline, on_status: OnStatus) -> None:
        self._config = config
        self._connection = config.connection()
        self._on_status = on_status
        self._gateway = config.gateway or self._connection.gateway or self._connection.host
        self._trust = _read_trust(config.ca)
        self._identities = Identities(
            self._connection,
            config.rest or f"https://{self._gateway}",
            config.ca,
            config.state / "identities.json",
        )
        policy = Policy.read(Path(config.policy)) if config.policy else None
        self._engine: Engine = open_engine(
            config.engine,
            self._connection.device_id,
            Path(config.cache) if config.cache else config.state / "cache",
            config.state,
            lifeline,
        )
        if policy is not None:
            known = config.state / "signed.json"
            self._engine = VerifyingEngine(self._engine, policy, known)
        self._broker = LocalBroker(
            config.broker, config.address, config.broker_port, config.state / "broker", lifeline
        )
        self._edge_hub: EdgeHub | None = None
        if config.edge_hub == "on":
            self._edge_hub = EdgeHub(
                self._upstream(), self._identities, config.address, config.ca, config.state / "hub"
            )
        self._desired_path = config.state / "desired.json"
        self._pending: dict[str, Any] | None = _read_json(self._desired_path)
        self._routes_path = config.state / "routes.json"
        kept = _read_json(self._routes_path)
        if self._edge_hub is not None and kept is not None:
            self._edge_hub.use(read_edge_routes(kept))
        self._desired = Desired()
        self._outcome: dict[str, Any] = {"code": 417, "description": "no deployment yet"}
        self._retry_at: float | None = None
        self._status: dict[str, Any] = {}

    async def run(self, ended: asyncio.Event) -> None:
        """Run the device until `ended` is set, then end its modules and its broker."""
        with _short_folder() as sockets:
            authority = self._edge_hub.authority if self._edge_hub else ""
            self._workload = Workload(sockets, self._identities.find, authority + self._trust)
            self._supervisor = Supervisor(
                self._engine, self._prepare, self._workload.close, self._config.backoff
            )
            agent = self._twin("$edgeAgent", self._take_desired)
            hub = self._twin("$edgeHub", lambda desired: self._take_routes(hub, desired))
            self._agent = agent
            try:
                await asyncio.to_thread(self._broker.start)
                if self._edge_hub is not None:
                    await self._edge_hub.start()
                tasks = [asyncio.create_task(twin.run()) for twin in (agent, hub)]
                tasks.append(asyncio.create_task(self._supervise()))
                done, _ = await asyncio.wait(
                    [*tasks, waiting := asyncio.create_task(ended.wait())],
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in (*tasks, waiting):
                    task.cancel()
                await asyncio.gather(*tasks, waiting, return_exceptions=True)
                for task in done:
                    task.result()
            finally:
                await self._supervisor.stop()
                await self._workload.close_all()
                if self._edge_hub is not None:
                    await self._edge_hub.stop()
                await asyncio.to_thread(self._broker.stop)

    def _twin(self, module: str, take: Callable[[dict[str, Any]], None]) -> RuntimeTwin:
        return RuntimeTwin(module, self._upstream(), self._identities, self._trust, take)

    def _upstream(self) -> ConnectionString:
        """The device's connection string with the gateway it really uses."""
        connection = self._connection
        if self._gateway == connection.host:
            return connection
        return ConnectionString(
            connection.host, connection.device_id, connection.key, self._gateway
        )

    # what the hub wants

    def _take_desired(self, properties: dict[str, Any]) -> None:
        self._pending = properties

    def _take_routes(self, hub: RuntimeTwin, properties: Mapping[str, Any]) -> None:
        """Have the edge hub carry out routes; without one they are only taken note of."""
        if "schemaVersion" not in properties:
            return
        outcome = {"code": 200, "description": ""}
        if self._edge_hub is not None:
            try:
                self._edge_hub.use(read_edge_routes(properties))
                # as with the modules: the device routes after a power cut without a hub
                _write_json(self._routes_path, properties)
            except DeploymentRefused as error:
                log.error("routes refused: %s", error)
                outcome = {"code": error.code, "description": str(error)}
        hub.report(
            {
                "schemaVersion": properties["schemaVersion"],
                "lastDesiredVersion": properties["$version"],
                "lastDesiredStatus": outcome,
            }
        )

    async def _supervise(self) -> None:
        while True:
            await asyncio.to_thread(self._broker.keep_running)
            if self._pending is not None:
                properties, self._pending = self._pending, None
                await self._deploy(properties)
            elif self._retry_at is not None and time.monotonic() >= self._retry_at:
                await self._carry_out()
            await self._supervisor.watch()
            self._report()
            await asyncio.sleep(LOOK)

    async def _deploy(self, properties: dict[str, Any]) -> None:
        try:
            desired = read_desired(properties)
        except DeploymentRefused as error:
            # what ran goes on: a deployment that does not read changes nothing
            log.error("deployment refused: %s", error)
            self._outcome = {"code": error.code, "description": str(error)}
            self._desired = Desired(int(properties.get("$version", -1)), self._desired.schema)
            return
        self._desired = desired
        if not desired.schema:
            return
        # kept so that modules start after a power cut without a hub
        await asyncio.to_thread(_write_json, self._desired_path, properties)
        await self._carry_out()

    async def _carry_out(self) -> None:
        self._retry_at = None
        failures = await self._supervisor.apply(self._desired)
        if failures:
            self._outcome = {"code": 500, "description": "; ".join(failures)[:512]}
            self._retry_at = time.monotonic() + RETRY
        else:
            self._outcome = {"code": 200, "description": ""}

    async def _prepare(self, module: DesiredModule) -> Launch:
        """Give the module its identity, its folders and the device's settings."""
        identity = self._identities.find(module.name)
        if identity is None:
            await asyncio.to_thread(self._identities.refresh)
            identity = self._identities.find(module.name)
        if identity is None:
            raise ModuleFailed(f"the hub has no identity for module {module.name}")
        await self._workload.open(module.name)
        runtime = {
            "IOTEDGE_WORKLOADURI": f"unix://{WORKLOAD_IN_MODULE}/{SOCKET}",
            "IOTEDGE_IOTHUBHOSTNAME": self._connection.host,
            "IOTEDGE_GATEWAYHOSTNAME": self._config.address if self._edge_hub else self._gateway,
            "IOTEDGE_DEVICEID": self._connection.device_id,
            "IOTEDGE_MODULEID": module.name,
            "IOTEDGE_MODULEGENERATIONID": identity.generation,
            "IOTEDGE_APIVERSION": API_VERSION,
            "IOTEDGE_AUTHSCHEME": "sasToken",
        }
        device = {
            "EDGEKIT_BROKER": f"{self._config.address}:{self._config.broker_port}",
            "EDGEKIT_BIND": self._config.address,
        }
        return Launch(
            module.name,
            module.image,
            device | dict(module.environment) | runtime,
            module.create_options,
            state=self._config.state / "modules" / module.name,
            workload=self._workload.folder_of(module.name),
            files=self._config.state / "files",
        )

    # what the device says

    def _report(self) -> None:
        modules = {name: module.report() for name, module in self._supervisor.modules.items()}
        if self._desired.version >= 0:
            self._agent.report(self._reported(modules))
        running = all(
            module.runtime_status == module.desired.status
            for module in self._supervisor.modules.values()
        )
        status = {
            "device": self._connection.device_id,
            "pid": os.getpid(),
            "broker": f"{self._config.address}:{self._config.broker_port}",
            "broker_kind": self._broker.kind,
            "engine": self._engine.name,
            "connected": self._agent.connected,
            "desired_version": self._desired.version,
            "last_desired_status": self._outcome,
            "ready": bool(modules) and running and self._outcome["code"] == 200,
            "modules": {
                name: {key: module[key] for key in ("runtimeStatus", "exitCode", "restartCount")}
                for name, module in modules.items()
            },
        }
        if status != self._status:
            self._status = status
            _write_json(self._config.state / STATUS_FILE, status)
            self._on_status(status)

    def _reported(self, modules: dict[str, Any]) -> dict[str, Any]:
        """The reported properties of `$edgeAgent`; the system's modules are this very program."""
        return {
            "schemaVersion": self._desired.schema or None,
            "version": {"version": "edgekit simulator"},
            "lastDesiredVersion": self._desired.version,
            "lastDesiredStatus": self._outcome,
            "runtime": {
                **self._desired.runtime,
                "platform": {"os": "linux", "architecture": platform.machine()},
            },
            "systemModules": {
                name: {**module, "runtimeStatus": "running", "exitCode": 0, "restartCount": 0}
                for name, module in self._desired.system.items()
                if isinstance(module, dict)
            },
            "modules": modules,
        }


@contextmanager
def claim(state: Path) -> Iterator[None]:
    """Make the state folder this process's own.

    Raises:
        DeviceError: it cannot be made, or another device runs on it.
    """
    try:
        state.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DeviceError(
            f"{state} cannot be used: {error.strerror}", "name a folder of ours as state"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise DeviceError(
            f"another device runs on {state}", "give each device a state folder of its own"
        ) from error
    finally:
        os.close(descriptor)


@contextmanager
def _short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for a module's name in the 107 bytes of a socket's path."""
    folder = Path(tempfile.mkdtemp(prefix="edgekit-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _read_trust(path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text()
    except OSError as error:
        raise DeviceError(
            f"{path} does not open: {error.strerror}", "name the hub's CA certificate as ca"
        ) from error


def _read_json(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(FileNotFoundError, ValueError):
        data = json.loads(path.read_text())
        return data if isinstance(data, dict) else None
    return None


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    with whole_file(path) as file:
        file.write(json.dumps(data).encode())
