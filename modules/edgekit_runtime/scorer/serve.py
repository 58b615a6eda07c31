"""The scorer as a program: load the model, open its doors, end gracefully."""

import asyncio
import logging
import signal
from concurrent.futures import ThreadPoolExecutor

import uvloop

from edgekit_runtime.errors import SettingsError
from edgekit_runtime.scorer.http import Connection, Service
from edgekit_runtime.scorer.model import Model
from edgekit_runtime.scorer.mqtt import Door
from edgekit_runtime.settings import Settings

log = logging.getLogger(__name__)

GRACE = 8.0  # seconds for requests under way; a container engine kills after 10


def serve(settings: Settings) -> None:
    """Serve the model over HTTP, and over MQTT where a broker is set, until SIGTERM or SIGINT."""
    model = Model.load(settings.model, settings.threads)
    log.info("serving %s:%s", model.name, model.version)
    door = Door(model, settings.module, settings.broker) if settings.broker else None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings, model, door))


async def _serve(settings: Settings, model: Model, door: Door | None) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def end() -> None:
        loop.call_soon_threadsafe(ended.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    executor = ThreadPoolExecutor(1, thread_name_prefix="infer")
    service = Service(
        model,
        executor,
        settings.max_body,
        settings.queue,
        ready=(lambda: True) if door is None else door.subscribed.is_set,
    )
    try:
        server = await loop.create_server(
            lambda: Connection(service), settings.http.host, settings.http.port, backlog=1024
        )
    except OSError as error:
        raise SettingsError(
            f"cannot listen on {settings.http}: {error.strerror}",
            "set EDGEKIT_BIND and EDGEKIT_HTTP_PORT to a free address",
        ) from error
    log.info("HTTP on %s", server.sockets[0].getsockname()[:2])
    if door is not None:
        door.open(on_failure=end)
    await ended.wait()
    server.close()
    await _drain(service)
    if door is not None:
        await loop.run_in_executor(executor, door.close)
        executor.shutdown()
        if door.failure:
            raise door.failure
    log.info("ended")


async def _drain(service: Service) -> None:
    """Answer what has come, take nothing new."""
    service.draining = True
    for connection in list(service.connections):
        connection.close_when_done()
    deadline = asyncio.get_running_loop().time() + GRACE
    while service.connections and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.02)
