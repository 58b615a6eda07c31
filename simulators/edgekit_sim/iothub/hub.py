"""The hub itself: the parts put together, and what happens between a device and the service."""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Sequence
from urllib.parse import unquote

import orjson

from edgekit_sim.iothub.access import Gatekeeper, load_policies
from edgekit_sim.iothub.commands import Commands
from edgekit_sim.iothub.configurations import Configurations
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.events import EventLog
from edgekit_sim.iothub.faults import DELAY, LOSE_ACKS, THROTTLE, THROTTLED, Fault, Faults
from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.jobs import Jobs
from edgekit_sim.iothub.methods import Methods
from edgekit_sim.iothub.mqtt.connection import DeviceConnection
from edgekit_sim.iothub.mqtt.packets import Malformed
from edgekit_sim.iothub.mqtt.sessions import (
    COMMANDS,
    DESIRED,
    IN_FLIGHT_LIMIT,
    METHODS,
    TWIN,
    Sessions,
)
from edgekit_sim.iothub.properties import encode_properties
from edgekit_sim.iothub.quotas import Quotas
from edgekit_sim.iothub.registry import Registry
from edgekit_sim.iothub.retention import Retention, keep_expiring
from edgekit_sim.iothub.routing.router import Router
from edgekit_sim.iothub.state_events import StateEvents
from edgekit_sim.iothub.store import Store
from edgekit_sim.iothub.twins import Json, timestamp
from edgekit_sim.iothub.uploads import Storage, Uploads

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0  # how often keep-alive and token expiry are looked at
_TWIN_GET = re.compile(r"\$iothub/twin/GET/\?\$rid=([^&]*)")
_TWIN_PATCH = re.compile(r"\$iothub/twin/PATCH/properties/reported/\?\$rid=([^&]*)")
_METHOD_RESPONSE = re.compile(r"\$iothub/methods/res/(-?\d{1,9})/\?\$rid=([^&]*)")


class Hub:
    """One IoT Hub.

    Args:
        store: its state.
        hostnames: what clients may call it in tokens; the first is its own.
        tier: whose rates hold: none, free, s1, s2 or s3.
        storage: the account for devices' files and routed messages, if there is one.
        notifies: whether the service side gets notices of files that devices uploaded.
        retention: how long events are kept; None for as long as a new hub of the service does.

    Attributes:
        name: what events call it: the first part of its host name.
        registry: devices, modules and twins.
        configurations: automatic deployments and configurations.
        events: the built-in endpoint.
        router: takes messages and the hub's own events to endpoints.
        sessions: what is remembered of MQTT clients.
        methods: direct method calls under way.
        commands: cloud-to-device messages.
        jobs: scheduled jobs, imports and exports.
        faults: faults in force.
        quotas: the tier's rates.
        uploads: files that devices are uploading.
        gatekeeper: checks tokens.
        open_connections: all device connections, also those that have not said who they are.
    """

    def __init__(
        self,
        store: Store,
        hostnames: Sequence[str],
        tier: str = "none",
        storage: Storage | None = None,
        notifies: bool = False,
        retention: Retention | None = None,
    ) -> None:
        self.store = store
        self._retention = retention or Retention()
        self.name = hostnames[0].partition(".")[0]
        self.quotas = Quotas(tier, self.name)
        self.uploads = Uploads(store, storage, notifies)
        self.registry = Registry(store)
        self.events = EventLog(store)
        self.router = Router(store, self.registry, self.events, self.name, storage)
        self._state_events = StateEvents(self.name, self.router, self.registry)
        self.sessions = Sessions(store)
        self.methods = Methods(self.sessions)
        self.commands = Commands(store, self.registry)
        self.commands.deliver = self._deliver
        self.started = time.time()
        self.jobs = Jobs(store, self.registry, self.methods)
        self.faults = Faults()
        self.gatekeeper = Gatekeeper(
            store, self.registry, self.faults, load_policies(store), hostnames
        )
        self.configurations = Configurations(store, self.registry)
        self.open_connections: set[DeviceConnection] = set()
        self._connections: dict[str, DeviceConnection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.registry.on_desired.append(self._notify_desired)
        self.registry.on_removed.append(self._remove)

    def start(self, failed: Callable[[Exception], None]) -> None:
        """Begin to write and to sweep; `failed` is called when the disk refuses."""
        self.store.start(failed)
        self.jobs.start()
        self.router.archive.start()
        self._spawn(self._sweep())
        self._spawn(keep_expiring(self.store, self._logs, self._retention))

    async def stop(self) -> None:
        """Close all connections and write what is queued."""
        for connection in list(self.open_connections):
            connection.close()
        await self.jobs.stop()
        await self.router.archive.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.store.close()

    def _logs(self) -> list[EventLog]:
        return [self.events, *self.router.streams.values()]

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- connections

    def connected(self, connection: DeviceConnection) -> None:
        """A client has proved who it is; an older connection of the same gives way."""
        identity = connection.identity
        assert identity is not None
        assert connection.session is not None
        older = self._connections.get(identity.client_id)
        self._connections[identity.client_id] = connection
        if older is not None:
            older.abort()
        connection.session.wire = connection
        identity.connected = True
        identity.state_changed = identity.last_activity = timestamp()
        if older is None:
            self._state_events.connected(identity)

    def disconnected(self, connection: DeviceConnection, will: tuple[str, bytes] | None) -> None:
        """A client has gone; with a will that it did not take back."""
        identity, session = connection.identity, connection.session
        assert identity is not None
        if will is not None:
            self._publish_will(identity, *will)
        if self._connections.get(identity.client_id) is not connection:
            return
        del self._connections[identity.client_id]
        identity.connected = False
        identity.state_changed = timestamp()
        self._state_events.disconnected(identity)
        if session is not None:
            session.wire = None
            session.drop_tagged()
            if not identity.module_id:
                self.commands.release(identity.device_id)
            if not session.persistent:
                self.sessions.forget(session.client_id)

    def _publish_will(self, identity: Identity, topic: str, payload: bytes) -> None:
        base = f"devices/{identity.client_id.replace('/', '/modules/', 1)}/messages/events"
        if topic.startswith(base):
            properties = f"{topic[len(base) :].strip('/')}&iothub-MessageType=Will".lstrip("&")
            self.router.telemetry(identity, properties, payload)

    def ready(self, connection: DeviceConnection) -> None:
        """A client has connected or subscribed: what waits for it can be sent."""
        assert connection.session is not None
        if METHODS in connection.session.features:
            self.methods.arrived(connection.session.client_id)
        assert connection.identity is not None
        if not connection.identity.module_id:
            self._deliver(connection.identity)

    def delivered(self, connection: DeviceConnection, tag: int) -> None:
        """A device has acknowledged a command."""
        assert connection.identity is not None
        self.commands.complete(connection.identity.device_id, tag)
        self._deliver(connection.identity)

    def _deliver(self, identity: Identity) -> None:
        """Send a device the commands that wait for it, as far as it takes them."""
        session = self.sessions.find(identity)
        if session is None or session.wire is None or COMMANDS not in session.features:
            return
        for command in self.commands.waiting(identity.device_id):
            if len(session.in_flight) >= IN_FLIGHT_LIMIT:
                return
            properties = {**command.system, **command.properties}
            if command.ack != "none":
                properties["iothub-ack"] = command.ack
            topic = f"devices/{identity.device_id}/messages/devicebound/"
            topic += encode_properties(properties)
            if self.commands.sending(command):
                tag = command.sequence
                session.deliver(COMMANDS, topic, command.body, 1, tag)
                if session.features.get(COMMANDS) == 0:  # nobody will say that it has arrived
                    self.commands.complete(identity.device_id, tag)

    def reset(self, fault: Fault) -> None:
        """Reset the connections of all devices (and their modules) that a fault strikes."""
        for connection in list(self.open_connections):
            identity = connection.identity
            if fault.strikes(identity.device_id if identity else None):
                connection.abort()

    def connected_count(self) -> int:
        """How many devices (not modules) are connected."""
        return sum("/" not in client_id for client_id in self._connections)

    def set_model(self, identity: Identity, model_id: str) -> None:
        """Take over the plug-and-play model a client announced."""
        if model_id and identity.twin.model_id != model_id:
            identity.twin.model_id = model_id
            self.registry.save(identity)

    def _remove(self, identity: Identity) -> None:
        connection = self._connections.get(identity.client_id)
        if connection is not None:
            connection.abort()
        if self.registry.find(identity.device_id, identity.module_id) is None:
            self.sessions.forget(identity.client_id)
            if not identity.module_id:
                self.commands.forget(identity.device_id)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now, clock = time.monotonic(), self.faults.clock()
            self.commands.expire_all()
            for connection in list(self.open_connections):
                # with a full disk connections are not read: they only seem silent
                if now - connection.last_seen > connection.keep_alive and not self.store.full:
                    connection.abort()
                elif clock > connection.expires:
                    connection.close()

    # ---- requests of devices that are not telemetry

    def request(self, connection: DeviceConnection, topic: str, payload: bytes) -> None:
        """Handle a message on one of the service's own topics.

        Raises:
            Malformed: the topic is none of them; the service closes the connection.
        """
        if match := _TWIN_GET.match(topic):
            self._spawn(self._get_twin(connection, match[1]))
        elif match := _TWIN_PATCH.match(topic):
            self._spawn(self._report(connection, match[1], payload))
        elif match := _METHOD_RESPONSE.match(topic):
            assert connection.identity is not None
            self.methods.answer(
                connection.identity.client_id, unquote(match[2]), int(match[1]), payload
            )
        else:
            raise Malformed(f"nobody may publish to {topic[:200]!r} over this connection")

    def _throttle(self, identity: Identity) -> None:
        if self.faults.active and self.faults.strikes(THROTTLE, identity.device_id):
            raise HubFault(429, "ThrottlingException", THROTTLED)

    def _respond(
        self, connection: DeviceConnection, status: int, request: str, body: bytes = b""
    ) -> None:
        session, identity = connection.session, connection.identity
        if session is None or identity is None or session.wire is not connection:
            return
        topic = f"$iothub/twin/res/{status}/?$rid={request}"
        if self.faults.active:
            if self.faults.strikes(LOSE_ACKS, identity.device_id):
                connection.abort()
                return
            delay = self.faults.strikes(DELAY, identity.device_id)
            if delay is not None:
                loop = asyncio.get_running_loop()
                late = max(0.0, delay.seconds)
                loop.call_later(late, session.deliver, TWIN, topic, body, 0)
                return
        session.deliver(TWIN, topic, body, 0)

    async def _get_twin(self, connection: DeviceConnection, request: str) -> None:
        identity = connection.identity
        assert identity is not None
        twin = identity.twin
        document = {
            "desired": twin.desired.for_device(),
            "reported": twin.reported.for_device(),
        }
        try:
            self._throttle(identity)
            await self.store.settled()  # no device sees a version that a power cut could take back
        except HubFault as fault:
            self._respond(connection, fault.status, request, _error(fault))
        else:
            self._respond(connection, 200, request, orjson.dumps(document))

    async def _report(self, connection: DeviceConnection, request: str, payload: bytes) -> None:
        identity = connection.identity
        assert identity is not None
        try:
            self._throttle(identity)
            self.store.refuse_when_full()
            version = self.registry.report(identity, _json(payload))
            await self.store.settled()
        except HubFault as fault:
            self._respond(connection, fault.status, request, _error(fault))
        else:
            self._respond(connection, 204, f"{request}&$version={version}")

    def _notify_desired(self, identity: Identity, patch: Json) -> None:
        """Tell a device of a change, as soon as that is on disk."""
        session = self.sessions.find(identity)
        if session is not None and session.wire is not None:
            version = identity.twin.desired.version
            topic = f"$iothub/twin/PATCH/properties/desired/?$version={version}"
            body = orjson.dumps({**patch, "$version": version})
            self.store.then(lambda: session.deliver(DESIRED, topic, body, 1))


def _json(payload: bytes) -> object:
    with contextlib.suppress(orjson.JSONDecodeError):
        return orjson.loads(payload)
    raise HubFault(400, "ArgumentInvalid", "the body is no JSON")


def _error(fault: HubFault) -> bytes:
    return orjson.dumps({"errorCode": fault.code, "message": str(fault)})
