"""From the store to the hub: at least once, in order, through azure-iot-device.

The SDK keeps nothing over a lost connection, so it gets no retries to make: on any failure its
client is thrown away and, after a pause, a new one starts where the store says.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import azure.iot.device
from azure.iot.device.aio import IoTHubModuleClient

from edgekit_runtime.telemetry.store import Kept, Store

log = logging.getLogger(__name__)

WINDOW = 64  # messages on their way at once
PAUSES = (0.5, 30.0)  # seconds before the first and the later attempts to connect
PATIENCE = 60.0  # seconds for one operation of the SDK
KEEPALIVE = 15  # seconds: how soon a silent network is noticed
LARGEST = 240 << 10  # bytes of a payload; the hub takes 256 KB with everything around it


class Hub(Protocol):
    """The part of azure-iot-device that is used."""

    async def connect(self) -> None:
        """Connect once."""

    async def send_message(self, message: azure.iot.device.Message) -> None:
        """Send; returns when the hub has acknowledged."""

    async def shutdown(self) -> None:
        """End for good."""


def edge_module() -> Hub:
    """The hub as IoT Edge hands it to a module, from `IOTEDGE_*`."""
    hub: Hub = IoTHubModuleClient.create_from_edge_environment(
        connection_retry=False, auto_connect=False, keep_alive=KEEPALIVE
    )
    return hub


class Uplink:
    """Uploads what the store has, until cancelled.

    Args:
        store: where messages wait.
        open_hub: makes a new client; called in a thread, as it may wait for the workload API.

    Attributes:
        connected: whether the hub was there the last time it was asked.
    """

    def __init__(self, store: Store, open_hub: Callable[[], Hub] = edge_module) -> None:
        self._store = store
        self._open_hub = open_hub
        self._more = asyncio.Event()
        self.connected = False

    def wake(self) -> None:
        """Say that the store has new messages; call it in the uplink's event loop."""
        self._more.set()

    async def run(self) -> None:
        """Connect, upload, and begin again after every failure, each pause longer than the last."""
        pause = PAUSES[0]
        while True:
            try:
                hub = await asyncio.to_thread(self._open_hub)
            except Exception as error:  # the SDK's, requests' and OSError; none of them final
                log.warning("no connection to the hub: %s", _reason(error))
            else:
                try:
                    await asyncio.wait_for(hub.connect(), PATIENCE)
                    self.connected, pause = True, PAUSES[0]
                    log.info("connected to the hub")
                    await self._upload(hub)
                except Exception as error:  # see above
                    log.warning("lost the hub: %s", _reason(error))
                finally:
                    self.connected = False
                    await _end(hub)
            # spread over time what a cut made simultaneous
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 no secret
            pause = min(pause * 2, PAUSES[1])

    async def _upload(self, hub: Hub) -> None:
        while True:
            self._more.clear()
            messages = await asyncio.to_thread(self._store.read, 0, WINDOW)
            if messages:
                await self._send(hub, messages)
            else:
                await self._more.wait()

    async def _send(self, hub: Hub, messages: Sequence[Kept]) -> None:
        """Send a window in order; confirm what the hub acknowledged without a gap."""
        outcomes = await asyncio.gather(
            *(_patiently(hub.send_message(_envelope(message))) for message in messages),
            return_exceptions=True,
        )
        failures = [n for n, outcome in enumerate(outcomes) if outcome is not None]
        arrived = failures[0] if failures else len(messages)
        if arrived:
            await asyncio.to_thread(self._store.confirm, messages[arrived - 1].position)
        if failures:
            failure = outcomes[arrived]
            assert isinstance(failure, BaseException)
            raise failure


async def _patiently(operation: Awaitable[None]) -> None:
    await asyncio.wait_for(operation, PATIENCE)


def _envelope(message: Kept) -> azure.iot.device.Message:
    envelope = azure.iot.device.Message(  # type: ignore[no-untyped-call] # the SDK has no types
        message.payload,
        message_id=message.id,
        content_type="application/json",
        content_encoding="utf-8",
    )
    # edgekit/{module}/outputs/{output}
    levels = message.topic.split("/")
    envelope.custom_properties["module"] = levels[1]
    envelope.custom_properties["output"] = levels[-1]
    return envelope


async def _end(hub: Hub) -> None:
    try:
        await asyncio.wait_for(hub.shutdown(), PATIENCE)
    except Exception as error:  # it is thrown away in any case
        log.debug("the SDK's client did not end well: %s", _reason(error))


def _reason(error: BaseException) -> str:
    chain: list[str] = []
    current: Any = error
    while current is not None and len(chain) < 3:
        chain.append(" ".join(str(current).split()) or type(current).__name__)
        current = current.__cause__
    return ": ".join(chain)
