"""A module twin of the device's own runtime, followed and reported to for as long as it runs.

`$edgeAgent` and `$edgeHub` authenticate as any module does, with the key the hub has for them; the
device took it from the hub with its own (see identities). As in the telemetry agent, the SDK's
client is thrown away on any failure: what it had in flight is decided by the twin itself.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from azure.iot.device.aio import IoTHubModuleClient

from edgekit_sim.iotedge.config import ConnectionString
from edgekit_sim.iotedge.errors import DeviceError
from edgekit_sim.iotedge.identities import Identities

log = logging.getLogger(__name__)

PAUSES = (0.3, 10.0)  # seconds before the first and the later attempts
PATIENCE = 40.0  # seconds for one operation of the SDK
KEEPALIVE = 15  # seconds

Properties = dict[str, Any]


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> Properties:
    """The JSON merge patch (RFC 7396) that makes `new` of `old`; null removes."""
    patch: Properties = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            if inner := merge_patch(before, value):
                patch[name] = inner
        elif name not in old or before != value:
            patch[name] = value
    return patch


def without_nulls(properties: Mapping[str, Any]) -> Properties:
    """The properties as a twin can hold them: no null, no `$version` or `$metadata`."""
    return {
        name: without_nulls(value) if isinstance(value, Mapping) else value
        for name, value in properties.items()
        if value is not None and name not in ("$version", "$metadata")
    }


class RuntimeTwin:
    """The twin of `$edgeAgent` or `$edgeHub`.

    Args:
        module: its name.
        connection: the device's.
        identities: where its key comes from.
        trust: PEM certificates, or empty for the system's.
        on_desired: called in the event loop with all desired properties, on every connection and
            on every change.
    """

    def __init__(
        self,
        module: str,
        connection: ConnectionString,
        identities: Identities,
        trust: str,
        on_desired: Callable[[Properties], None],
    ) -> None:
        self._module = module
        self._connection = connection
        self._identities = identities
        self._trust = trust
        self._on_desired = on_desired
        self._wanted: Properties = {}
        self._events: asyncio.Queue[str] = asyncio.Queue()
        self.connected = False

    def report(self, properties: Mapping[str, Any]) -> None:
        """Make the reported properties this, now or when the hub is back."""
        wanted = without_nulls(properties)
        if wanted != self._wanted:
            self._wanted = deepcopy(wanted)
            self._events.put_nowait("report")

    async def run(self) -> None:
        """Follow the twin until cancelled."""
        pause = PAUSES[0]
        while True:
            client: Any = None
            try:
                client = await self._connect()
                self.connected, pause = True, PAUSES[0]
                await self._follow(client)
            except Exception as error:  # the SDK's and our own; a runtime never gives up
                log.warning("%s has no hub: %s", self._module, " ".join(str(error).split()))
            finally:
                self.connected = False
                if client is not None:
                    await _end(client)
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 no secret
            pause = min(pause * 2, PAUSES[1])

    async def _connect(self) -> Any:
        identity = self._identities.find(self._module)
        if identity is None:
            await asyncio.to_thread(self._identities.refresh)
            identity = self._identities.find(self._module)
        if identity is None:
            raise DeviceError(
                f"{self._connection.device_id} has no module {self._module}",
                "register it as an edge device",
            )
        parts = {
            "HostName": self._connection.host,
            "DeviceId": self._connection.device_id,
            "ModuleId": self._module,
            "SharedAccessKey": identity.key,
            "GatewayHostName": self._connection.gateway,
        }
        client = IoTHubModuleClient.create_from_connection_string(
            ";".join(f"{name}={value}" for name, value in parts.items() if value),
            connection_retry=False,
            auto_connect=False,
            keep_alive=KEEPALIVE,
            **({"server_verification_cert": self._trust} if self._trust else {}),
        )
        self._events = asyncio.Queue()
        client.on_connection_state_change = self._notice(client, "connection")
        on_patch = self._notice(client, "desired")
        try:
            await asyncio.wait_for(client.connect(), PATIENCE)
            # setting this handler subscribes, and waits for it
            await asyncio.to_thread(
                setattr, client, "on_twin_desired_properties_patch_received", on_patch
            )
        except BaseException:
            await _end(client)
            raise
        return client

    def _notice(self, client: Any, event: str) -> Callable[..., None]:
        """A handler for the SDK, which calls it in a thread of its own."""
        loop = asyncio.get_running_loop()

        # the SDK wants a plain function here and calls it outside our loop
        def notice(*_: Any) -> None:
            if event != "connection" or not client.connected:
                loop.call_soon_threadsafe(self._events.put_nowait, event)

        return notice

    async def _follow(self, client: Any) -> None:
        twin = await asyncio.wait_for(client.get_twin(), PATIENCE)
        self._on_desired(twin["desired"])
        reported = without_nulls(twin.get("reported", {}))
        while True:
            wanted = self._wanted
            if wanted and (patch := merge_patch(reported, wanted)):
                await asyncio.wait_for(client.patch_twin_reported_properties(patch), PATIENCE)
                reported = wanted
            match await self._events.get():
                case "connection":
                    raise DeviceError("the connection was lost")
                case "desired":
                    # the whole twin: a patch that was missed cannot do harm then
                    twin = await asyncio.wait_for(client.get_twin(), PATIENCE)
                    self._on_desired(twin["desired"])


async def _end(client: Any) -> None:
    try:
        await asyncio.wait_for(client.shutdown(), PATIENCE)
    except Exception as error:  # it is thrown away in any case
        log.debug("the SDK's client did not end well: %s", error)
