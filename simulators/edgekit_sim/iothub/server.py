"""The hub as a server: its folder, its certificates, its ports, from start to end."""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import sqlite3
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web

from edgekit_sim.dps.mqtt import Doorway
from edgekit_sim.dps.provisioning import Provisioning
from edgekit_sim.dps.rest import add_provisioning
from edgekit_sim.iothub.amqp.nodes import Nodes
from edgekit_sim.iothub.certificates import ensure_authority, issue_server
from edgekit_sim.iothub.client import DESCRIPTION
from edgekit_sim.iothub.client_certificates import ask_for_certificates
from edgekit_sim.iothub.errors import HubFault, SimulatorError
from edgekit_sim.iothub.hub import Hub
from edgekit_sim.iothub.listeners import (
    AUTO,
    HTTPS_PORT,
    WEBSOCKET_PORT,
    Sockets,
    open_sockets,
    raise_descriptor_limit,
)
from edgekit_sim.iothub.quotas import TIERS
from edgekit_sim.iothub.rest import make_application
from edgekit_sim.iothub.rest.websocket import MQTT
from edgekit_sim.iothub.retention import Retention
from edgekit_sim.iothub.routing.configuration import Routing
from edgekit_sim.iothub.store import Store
from edgekit_sim.iothub.uploads import Storage

HUB_NAME = "edgekit-hub.local"
SHUTDOWN_SECONDS = 1.0


@dataclass(frozen=True)
class Settings:
    """How a hub is started.

    Attributes:
        state: its folder, made if it is not there; None keeps nothing.
        bind: addresses to listen on; `auto` looks for a free one.
        hostname: the hub's name in tokens and certificates.
        https_port: port of the REST API; None prefers the last one used, then 8443.
        websocket_port: port of MQTT over WebSocket; None for none.
        plain_port: port of MQTT without TLS, for load tests; None for none.
        durable: wait for the disk before anything is acknowledged.
        tier: the tier whose rates hold: none, free, s1, s2 or s3.
        storage: the storage account for devices' files and routed messages, if there is one.
        file_notifications: tell the service side of files that devices have uploaded.
        routing: the routes to use from now on; None for those of the last run.
        retention: how long events are kept.
    """

    state: Path | None = None
    bind: tuple[str, ...] = ("127.0.0.1",)
    hostname: str = HUB_NAME
    https_port: int | None = None
    websocket_port: int | None = WEBSOCKET_PORT
    plain_port: int | None = None
    durable: bool = True
    tier: str = "none"
    storage: Storage | None = None
    file_notifications: bool = False
    routing: Routing | None = None
    retention: Retention = field(default_factory=Retention)

    def __post_init__(self) -> None:
        if not self.bind:
            raise SimulatorError("the hub has no address", "name one with --bind, or use auto")
        if not self.hostname or any(c in self.hostname for c in "/;= "):
            raise SimulatorError(f"{self.hostname!r} is no host name")
        if self.tier not in TIERS:
            raise SimulatorError(f"{self.tier!r} is no tier", f"use one of {', '.join(TIERS)}")


class Server:
    """A running hub; an async context manager that is ready when it has been entered.

    Args:
        settings: how to start it.

    Attributes:
        hub: the hub inside.
        failure: why it had to stop by itself; None while it is well.
        stopped: set when it stops by itself.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.failure: SimulatorError | None = None
        self.stopped = asyncio.Event()
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "Server":
        async with contextlib.AsyncExitStack() as stack:
            self._folder = stack.enter_context(_state_folder(self.settings.state))
            self._sockets = self._open(stack)
            ensure_authority(self._folder)
            addresses = self._sockets.addresses
            names = list(dict.fromkeys([self.settings.hostname, "localhost", *addresses]))
            context = _tls(issue_server(self._folder, names))
            durable = self.settings.durable and self.settings.state is not None
            store = Store(self._folder / "hub.db", durable)
            self.hub = Hub(
                store,
                names,
                self.settings.tier,
                self.settings.storage,
                self.settings.file_notifications,
                self.settings.retention,
            )
            self._nodes = Nodes(self.hub)
            alone = self.settings.hostname == HUB_NAME  # a name that resolves nowhere
            assigned_as = addresses[0] if alone else self.settings.hostname
            self.provisioning = Provisioning(self.hub, assigned_as, names)
            self._route()
            self.hub.start(self._fail)
            stack.push_async_callback(self.hub.stop)
            stack.push_async_callback(self.provisioning.stop)
            stack.callback(self._nodes.close)
            await self.hub.store.committed()
            self.provisioning.start()
            await self._serve_http(stack, context)
            await self._serve_mqtt(stack, context)
            await self._serve_amqp(stack, context)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def _route(self) -> None:
        if self.settings.routing is None:
            return
        try:
            self.hub.router.configure(self.settings.routing)
        except HubFault as fault:
            self.hub.store.close()
            raise SimulatorError(f"these routes cannot be used: {fault}") from fault

    def _open(self, stack: contextlib.AsyncExitStack) -> Sockets:
        """Open the ports: those of the last run where it was told to choose itself."""
        last = self._folder / "address.json"
        bind, preferred = self.settings.bind, [HTTPS_PORT]
        remembered: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            remembered = json.loads(last.read_text())
            preferred.insert(0, int(remembered["https"]))
        if self.settings.https_port is not None:
            preferred = [self.settings.https_port]
        ports = (preferred, self.settings.websocket_port, self.settings.plain_port)
        sockets = None
        if AUTO in bind and "address" in remembered:
            again = tuple(remembered["address"] if a == AUTO else a for a in bind)
            with contextlib.suppress(SimulatorError):
                sockets = open_sockets(again, *ports)
        sockets = sockets or open_sockets(bind, *ports)
        stack.callback(sockets.close)
        last.write_text(
            json.dumps({"address": sockets.addresses[0], "https": sockets.ports["https"]})
        )
        return sockets

    async def _serve_http(self, stack: contextlib.AsyncExitStack, context: ssl.SSLContext) -> None:
        application = make_application(self.hub, self._nodes)
        application[MQTT] = self._connection
        add_provisioning(application, self.provisioning)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        for name in ("https", "websocket"):
            for one in self._sockets.sockets.get(name, []):
                site = web.SockSite(runner, one, ssl_context=context)
                await site.start()

    async def _serve_mqtt(self, stack: contextlib.AsyncExitStack, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        for name, tls in (("mqtt", context), ("mqtt_plain", None)):
            for one in self._sockets.sockets.get(name, []):
                server = await loop.create_server(self._connection, sock=one, ssl=tls)
                stack.callback(server.close)

    async def _serve_amqp(self, stack: contextlib.AsyncExitStack, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        for name, tls in (("amqps", context), ("amqp", None)):
            for one in self._sockets.sockets.get(name, []):
                server = await loop.create_server(self._nodes.connection, sock=one, ssl=tls)
                stack.callback(server.close)

    def _connection(self) -> Doorway:
        return Doorway(self.hub, self.provisioning)

    def _fail(self, error: Exception) -> None:
        self.failure = SimulatorError(
            f"the hub stopped: its state in {self._folder} cannot be written: {error}",
            "free space there or name another folder with --state, and start it again",
        )
        self.stopped.set()

    def describe(self) -> dict[str, Any]:
        """What a client needs to know to use this hub; holds the owner's key."""
        address, ports = self._sockets.addresses[0], self._sockets.ports
        key = self.hub.gatekeeper.policies["iothubowner"].keys[0]
        host = f"{address}:{ports['https']}"
        return {
            "host": address,
            "hosts": list(self._sockets.addresses),
            "hostname": self.settings.hostname,
            "service_connection_string": f"HostName={host};SharedAccessKeyName=iothubowner"
            f";SharedAccessKey={key}",
            "eventhub_connection_string": f"Endpoint=sb://{address}/;SharedAccessKeyName=iothubowner"
            f";SharedAccessKey={key};EntityPath={self.hub.name}",
            **self.provisioning.describe(address, host),
            "ca_file": str(self._folder / "ca.pem"),
            "ports": ports,
            "state_dir": str(self._folder),
        }


async def serve(
    settings: Settings, ready: Callable[[dict[str, Any]], None], stop: asyncio.Event
) -> None:
    """Run a hub until `stop` is set.

    Args:
        settings: how to start it.
        ready: called with what `Server.describe` gives when clients can connect.
        stop: set by whoever wants it to end.

    Raises:
        SimulatorError: it cannot start, or had to stop by itself.
    """
    raise_descriptor_limit()
    async with contextlib.AsyncExitStack() as stack:
        try:
            server = await stack.enter_async_context(Server(settings))
            description = server.describe()
            stack.enter_context(_published(description))
        except (OSError, sqlite3.Error) as error:
            raise SimulatorError(
                f"the hub's state in {settings.state or 'a temporary folder'} cannot be read or"
                f" written: {error}",
                "free space there or name another folder with --state",
            ) from error
        ready(description)
        await _until(stop, server)


@contextlib.contextmanager
def _published(description: dict[str, Any]) -> Iterator[None]:
    """Say in the state folder where the hub is, as long as it is there; for its owner only."""
    path = Path(description["state_dir"]) / DESCRIPTION
    temporary = path.with_suffix(".new")
    with open(temporary, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        json.dump(description, file)
    temporary.rename(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


async def _until(stop: asyncio.Event, server: Server) -> None:
    waiting = [asyncio.ensure_future(e.wait()) for e in (stop, server.stopped)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for one in waiting:
        one.cancel()
    if server.failure is not None:
        raise server.failure


@contextlib.contextmanager
def _state_folder(path: Path | None) -> Iterator[Path]:
    """The state folder, locked against a second hub; a temporary one when there is none."""
    with ExitStack() as stack:
        if path is None:
            shared = Path("/dev/shm")  # noqa: S108  the folder is made fresh and private inside it
            parent = shared if os.access(shared, os.W_OK) else None
            path = Path(tempfile.mkdtemp(prefix="edgekit-hub-", dir=parent))
            stack.callback(shutil.rmtree, path, ignore_errors=True)
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = stack.enter_context((path / "lock").open("w"))
        except OSError as error:
            raise SimulatorError(
                f"{path} cannot be the hub's folder: {error.strerror}",
                "name another one with --state",
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SimulatorError(
                f"another hub is using {path}", "stop it, or name another folder with --state"
            ) from error
        yield path.resolve()


def _tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate)
    ask_for_certificates(context)
    return context
