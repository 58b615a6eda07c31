"""The edge hub itself: modules connect as to the hub, with TLS, MQTT and tokens of their own.

Messages of modules are written to disk for each place that a route takes them to, and acknowledged
then. What a module asks of its twin, and what the hub asks of a module, is passed through.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Iterable
from pathlib import Path

from edgekit_sim.iotedge.config import ConnectionString
from edgekit_sim.iotedge.edge_hub.forward import Forward, Waiting, upstream
from edgekit_sim.iotedge.edge_hub.routes import UPSTREAM, EdgeRoutes
from edgekit_sim.iotedge.edge_hub.upstream import PORT, ModuleLink
from edgekit_sim.iotedge.errors import DeviceError
from edgekit_sim.iotedge.identities import Identities
from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.certificates import ensure_authority, issue_server
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.faults import Faults
from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.mqtt.connection import DeviceConnection
from edgekit_sim.iothub.mqtt.packets import Malformed
from edgekit_sim.iothub.mqtt.sessions import DESIRED, INPUTS, METHODS, TWIN, Sessions
from edgekit_sim.iothub.properties import encode_properties, split_properties
from edgekit_sim.iothub.quotas import Quotas
from edgekit_sim.iothub.routing.conditions import Message
from edgekit_sim.iothub.store import Acknowledges, Store

log = logging.getLogger(__name__)

WINDOW = 100  # messages a receiver has not acknowledged
SWEEP = 1.0  # seconds between two looks at keep-alives, tokens and what has waited too long
# what of the hub's own topics belongs to which subscription, and the filters for the hub
_PASSED = {
    TWIN: ("$iothub/twin/res/", "$iothub/twin/res/#"),
    DESIRED: ("$iothub/twin/PATCH/properties/desired/", "$iothub/twin/PATCH/properties/desired/#"),
    METHODS: ("$iothub/methods/POST/", "$iothub/methods/POST/#"),
}


class ModuleGate:
    """Lets modules of this device in, with tokens they had signed by the workload API.

    Args:
        connection: the device's.
        identities: the modules' keys.
    """

    def __init__(self, connection: ConnectionString, identities: Identities) -> None:
        self._connection = connection
        self._identities = identities
        self._known: dict[str, Identity] = {}

    def device(
        self, device_id: str, module_id: str, password: str | None, chain: tuple[bytes, ...]
    ) -> tuple[Identity, float]:
        """Let a module pass.

        Returns:
            The identity, and until when it may stay: seconds since 1970.

        Raises:
            HubFault: 401, saying why not.
        """
        del chain
        key = self._identities.find(module_id) if module_id else None
        if device_id != self._connection.device_id or key is None:
            raise HubFault(401, "IotHubUnauthorizedAccess", "no module of this device")
        token = tokens.parse(password or "")
        place = f"{self._connection.host}/devices/{device_id}/modules/{module_id}"
        if token is None or token.resource.lower() != place.lower():
            raise HubFault(401, "IotHubUnauthorizedAccess", "no token of this module")
        if not token.signed_by([key.key]) or token.expiry <= time.time():
            raise HubFault(401, "IotHubUnauthorizedAccess", "the token is forged, or has expired")
        identity = self._known.setdefault(module_id, Identity(device_id, module_id))
        return identity, float(token.expiry)


class EdgeRouter:
    """Takes messages of modules to where routes say.

    Args:
        store: tells senders when their messages are on disk.
        forward: keeps them.

    Attributes:
        routes: the routes in force.
        senders: the modules whose messages go to the hub.
    """

    def __init__(self, store: Store, forward: Forward) -> None:
        self.senders = forward.senders()
        self._store = store
        self._forward = forward
        self.routes = EdgeRoutes()

    def telemetry(
        self,
        identity: Identity,
        properties: str,
        body: bytes,
        sender: Acknowledges | None = None,
        packet_id: int = 0,
    ) -> None:
        """Take a module's message; its sender, if given, is told when it is safe."""
        output = dict(split_properties(properties)).get("$.on", "")
        message = Message(properties, body, identity)
        for route in self.routes.sinks(message, output).values():
            self._forward.put(route, identity.module_id, properties, body)
            if route.sink == UPSTREAM:
                self.senders.add(identity.module_id)
        if sender is not None:
            self._store.acknowledge(sender, packet_id)


class EdgeHub:
    """The edge hub of one device.

    Args:
        connection: the device's, with the gateway where the hub is.
        identities: its modules.
        address: where it listens.
        trust: file with the certificates the hub's is checked with; "" for the system's.
        folder: where it keeps messages and its certificates.

    Attributes:
        authority: certificate (PEM) that modules have to trust.
    """

    def __init__(
        self,
        connection: ConnectionString,
        identities: Identities,
        address: str,
        trust: str,
        folder: Path,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.authority = ensure_authority(folder).read_text()
        self._certificate = issue_server(folder, [address])
        self._connection = connection
        self._identities = identities
        self._address = address
        self._tls = ssl.create_default_context(cafile=trust or None)
        # what a module's connection needs of a hub
        self.store = Store(folder / "messages.db")
        self.faults, self.quotas = Faults(), Quotas()
        self.sessions = Sessions(self.store)
        self._forward = Forward(self.store)
        self.gatekeeper = ModuleGate(connection, identities)
        self.router = EdgeRouter(self.store, self._forward)
        self.open_connections: set[DeviceConnection] = set()
        self._present: dict[str, DeviceConnection] = {}
        self._links: dict[str, ModuleLink] = {}
        self._sent: dict[str, set[int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Let modules in.

        Raises:
            DeviceError: the port is taken.
        """
        loop = asyncio.get_running_loop()
        self.store.start(lambda error: log.error("the edge hub's disk fails: %s", error))
        self.store.on_commit.append(self._pump)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._certificate)
        try:
            self._server = await loop.create_server(
                lambda: DeviceConnection(self), self._address, PORT, ssl=context
            )
        except OSError as error:
            self.store.close()
            raise DeviceError(
                f"the edge hub cannot listen on {self._address}:{PORT}: {error.strerror}",
                "give the device an address of its own",
            ) from error
        self._tasks.add(loop.create_task(self._sweep()))

    async def stop(self) -> None:
        """Let nobody in any more; what waits stays on disk."""
        self._server.close()
        for connection in list(self.open_connections):
            connection.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        links, self._links = list(self._links.values()), {}
        await asyncio.gather(*(asyncio.to_thread(link.close) for link in links))
        self.store.close()

    def use(self, routes: EdgeRoutes) -> None:
        """Route messages so from now on."""
        self.router.routes = routes

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            now = time.monotonic()
            for connection in list(self.open_connections):
                if now - connection.last_seen > connection.keep_alive:
                    connection.abort()
                elif time.time() > connection.expires:
                    connection.close()
            self._forward.expire()
            for receiver, sent in self._sent.items():  # what has expired makes room
                self._sent[receiver] = self._forward.kept(sent)
            self._pump()

    # ---- modules' connections

    def connected(self, connection: DeviceConnection) -> None:
        """A module has proved who it is; an older connection of the same gives way."""
        identity, session = connection.identity, connection.session
        assert identity is not None
        assert session is not None
        older = self._present.get(identity.module_id)
        self._present[identity.module_id] = connection
        if older is not None:
            older.abort()
        session.wire = connection

    def disconnected(self, connection: DeviceConnection, will: tuple[str, bytes] | None) -> None:
        """A module has gone."""
        del will
        identity, session = connection.identity, connection.session
        assert identity is not None
        if self._present.get(identity.module_id) is not connection:
            return
        del self._present[identity.module_id]
        self._sent.pop(identity.module_id, None)
        if session is not None:
            session.wire = None
            session.drop_tagged()
            if not session.persistent:
                self.sessions.forget(session.client_id)
        link = self._links.get(identity.module_id)
        if link is not None and link.idle:
            del self._links[identity.module_id]
            closing = asyncio.get_running_loop().create_task(asyncio.to_thread(link.close))
            self._tasks.add(closing)
            closing.add_done_callback(self._tasks.discard)

    def ready(self, connection: DeviceConnection) -> None:
        """A module has connected or subscribed: what waits for it can be sent."""
        identity, session = connection.identity, connection.session
        assert identity is not None
        assert session is not None
        filters = {_PASSED[feature][1] for feature in session.features if feature in _PASSED}
        link = self._link(identity.module_id)
        if link is not None:
            link.subscribe(filters)
        self._feed(identity)

    def delivered(self, connection: DeviceConnection, tag: int) -> None:
        """A module has acknowledged a message."""
        assert connection.identity is not None
        self._sent.get(connection.identity.module_id, set()).discard(tag)
        self._forward.done(tag)
        self._feed(connection.identity)

    def request(self, connection: DeviceConnection, topic: str, payload: bytes) -> None:
        """Pass on what a module says to the hub.

        Raises:
            Malformed: it may not say that.
        """
        assert connection.identity is not None
        if not topic.startswith(("$iothub/twin/", "$iothub/methods/res/")):
            raise Malformed(f"nobody may publish to {topic[:200]!r} over this connection")
        link = self._link(connection.identity.module_id)
        if link is not None:
            link.publish(topic, payload)

    def set_model(self, identity: Identity, model_id: str) -> None:
        """Modules have no models."""

    # ---- messages on their way

    def _pump(self) -> None:
        """Send on what can be sent."""
        for connection in list(self._present.values()):
            if connection.identity is not None:
                self._feed(connection.identity)
        for module in list(self.router.senders):
            self._send_up(module)

    def _send_up(self, module: str) -> None:
        """Send the hub what waits for it from a module."""
        sent = self._sent.setdefault(upstream(module), set())
        link = self._link(module)
        if link is None:
            return
        for waiting in self._new(upstream(module), sent):
            sent.add(waiting.id)
            link.send(waiting.id, waiting.properties, waiting.body)

    def _new(self, receiver: str, sent: set[int]) -> Iterable[Waiting]:
        """The next messages for a receiver, as far as its window goes."""
        if len(sent) >= WINDOW:
            return []
        return [one for one in self._forward.waiting(receiver, WINDOW) if one.id not in sent]

    def _feed(self, identity: Identity) -> None:
        session = self.sessions.find(identity)
        if session is None or session.wire is None or INPUTS not in session.features:
            return
        sent = self._sent.setdefault(identity.module_id, set())
        for waiting in self._new(identity.module_id, sent):
            topic = f"devices/{identity.device_id}/modules/{waiting.sink.replace('/', '/inputs/')}/"
            topic += self._with_sender(waiting)
            if not session.deliver(INPUTS, topic, waiting.body, 1, waiting.id):
                return
            sent.add(waiting.id)
            if session.features[INPUTS] == 0:  # nobody will say that it has arrived
                self._forward.done(waiting.id)

    def _with_sender(self, waiting: Waiting) -> str:
        """A message's properties as its receiver gets them."""
        properties = dict(split_properties(waiting.properties))
        properties.pop("$.on", None)
        sender = {"$.cdid": self._connection.device_id, "$.cmid": waiting.module}
        return encode_properties({**properties, **sender})

    def _link(self, module: str) -> ModuleLink | None:
        """A module's connection to the hub, made when it is needed first; None without a key."""
        if module not in self._links:
            identity = self._identities.find(module)
            if identity is None:
                return None
            self._links[module] = ModuleLink(
                self._connection, identity, self._tls, self._from_hub, self._arrived
            )
        return self._links[module]

    def _arrived(self, module: str, number: int) -> None:
        self._sent[upstream(module)].discard(number)
        self._forward.done(number)
        self._send_up(module)

    def _from_hub(self, module: str, topic: str, payload: bytes) -> None:
        """Pass on what the hub says to a module."""
        connection = self._present.get(module)
        if connection is None or connection.session is None:
            return
        for feature, (prefix, _) in _PASSED.items():
            if topic.startswith(prefix):
                connection.session.deliver(feature, topic, payload, 1)
