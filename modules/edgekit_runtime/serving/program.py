"""A scorer as a program: open its doors, end gracefully."""

import asyncio
import logging
import signal
import ssl
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import uvloop

from edgekit_runtime.errors import SettingsError
from edgekit_runtime.serving.http import Connection, HttpDoor, Reply, Request
from edgekit_runtime.serving.metrics import Metrics
from edgekit_runtime.serving.models import Models
from edgekit_runtime.serving.mqtt import Door
from edgekit_runtime.serving.rest import Rest
from edgekit_runtime.serving.service import Service, Tokens
from edgekit_runtime.settings import Settings, Tls

if TYPE_CHECKING:
    from edgekit_runtime.serving.grpc_door import GrpcDoor

log = logging.getLogger(__name__)

GRACE = 8.0  # seconds for requests under way; a container engine kills after 10

Answer = Callable[[Request], Awaitable[Reply]]
Watch = Callable[[Callable[[], None]], Awaitable[None]]
Opened = Callable[[int], None]


def _rest(service: Service) -> Answer:
    return Rest(service).answer


def serve(
    settings: Settings,
    models: Models,
    metrics: Metrics,
    watch: Watch | None = None,
    front: Callable[[Service], Answer] = _rest,
    opened: Opened | None = None,
) -> None:
    """Serve models over HTTP, and over gRPC and MQTT where they are set, until SIGTERM or SIGINT.

    Args:
        settings: of the module.
        models: what is served; it may change meanwhile.
        metrics: where everything is counted.
        watch: runs beside the doors until it is cancelled; calls its argument after each change of
            `models`.
        front: what answers HTTP requests from a service.
        opened: called once the doors are open, with the port of HTTP.

    Raises:
        SettingsError: a door cannot be opened.
        ModuleError: a door ended by itself.
    """
    for model in models:
        log.info("serving %s:%s", model.name, model.version)
    door = (
        Door(models, metrics, settings.module, settings.broker)
        if settings.broker is not None
        else None
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, models, metrics, door, watch, front, opened))


async def _serve(
    settings: Settings,
    models: Models,
    metrics: Metrics,
    door: Door | None,
    watch: Watch | None,
    front: Callable[[Service], Answer],
    opened: Opened | None,
) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def end() -> None:
        loop.call_soon_threadsafe(ended.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    executor = ThreadPoolExecutor(1, thread_name_prefix="infer")
    service = Service(
        models,
        executor,
        settings.queue,
        Tokens(settings.tokens),
        metrics,
        ready=(lambda: True) if door is None else door.subscribed.is_set,
    )
    http = HttpDoor(front(service), settings.max_body)
    server = await _listen(settings, http)
    grpc = await _open_grpc(settings, service)
    if door is not None:
        door.open(on_failure=end)
    if opened is not None:
        opened(server.sockets[0].getsockname()[1])
    announce = (lambda: None) if door is None else door.announce
    watching = None if watch is None else asyncio.ensure_future(watch(announce))
    await ended.wait()
    if watching is not None:
        watching.cancel()
    service.draining = True
    server.close()
    await asyncio.gather(http.drain(GRACE), *([grpc.drain(GRACE)] if grpc else []))
    if door is not None:
        await loop.run_in_executor(executor, door.close)
    executor.shutdown()
    if door is not None and door.failure:
        raise door.failure
    log.info("ended")


async def _listen(settings: Settings, http: HttpDoor) -> asyncio.Server:
    try:
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(http),
            settings.http.host,
            settings.http.port,
            backlog=1024,
            ssl=_context(settings.tls) if settings.tls else None,
        )
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {settings.http}: {error.strerror}",
            "set EDGEKIT_BIND and EDGEKIT_HTTP_PORT to a free address",
        ) from error
    scheme = "HTTPS" if settings.tls else "HTTP"
    log.info("%s on %s", scheme, server.sockets[0].getsockname()[:2])
    return server


async def _open_grpc(settings: Settings, service: Service) -> "GrpcDoor | None":
    if not settings.grpc_port:
        return None
    try:
        # imported only where it is asked for: it costs a small device memory
        from edgekit_runtime.serving.grpc_door import GrpcDoor
    except ImportError as error:
        raise SettingsError(
            f"EDGEKIT_GRPC_PORT is set, but {error.name} is not here",
            "pip install 'edgekit[grpc]', or add grpcio and protobuf to the image's --requirements",
        ) from error
    return await GrpcDoor.open(settings, service)


def _context(tls: Tls) -> ssl.SSLContext:
    """The server's side of TLS; with an authority, only for clients that it signed.

    Raises:
        SettingsError: a file is not there, or no PEM.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.client_authority:
            context.load_verify_locations(tls.client_authority)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"EDGEKIT_TLS_CERT, EDGEKIT_TLS_KEY or EDGEKIT_TLS_CLIENT_CA does not load: "
            f"{error.strerror or error}",
            "name PEM files that this user may read",
        ) from error
    return context
