"""Takes each message to its endpoints: the built-in one, other streams, blobs.

A message is evaluated when it comes and stands at all its endpoints in one transaction, so that it
is acknowledged when none can lose it any more. As long as nobody has configured routes, messages of
devices go to the built-in endpoint without being looked at.
"""

import logging
from collections.abc import Callable, Iterable
from urllib.parse import quote

import orjson

from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.events import BODY_LIMIT, TELEMETRY, EventLog
from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.query import UNDEFINED
from edgekit_sim.iothub.registry import Registry
from edgekit_sim.iothub.routing.archive import Archive
from edgekit_sim.iothub.routing.conditions import Message, twin_value
from edgekit_sim.iothub.routing.configuration import (
    BUILT_IN,
    SOURCES,
    Enrichment,
    Route,
    Routing,
    read_routing,
)
from edgekit_sim.iothub.store import Acknowledges, Store
from edgekit_sim.iothub.twins import Json
from edgekit_sim.iothub.uploads import Storage

logger = logging.getLogger(__name__)

SETTING = "routing"
HUB_NAME = "$iothubname"
_TWIN_ROOTS = (["tags"], ["properties", "desired"], ["properties", "reported"])

Deliver = Callable[[Identity, str, bytes, str], None]


class Router:
    """The hub's routes and endpoints.

    Args:
        store: where messages and the configuration are kept.
        registry: the senders.
        events: the built-in endpoint.
        name: the hub's, for `$iothubname` and names of blobs.
        storage: the account with the containers, if the hub has one.

    Attributes:
        streams: the event streams that routes lead to, by their entity paths in lower case.
        archive: what goes to blobs.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        events: EventLog,
        name: str,
        storage: Storage | None,
    ) -> None:
        self._store = store
        self._events = events
        self._name = name
        self.archive = Archive(store, registry, name, storage)
        self.streams: dict[str, EventLog] = {}
        self._deliver: dict[str, Deliver] = {}
        self._routes: dict[str, list[Route]] = {}
        kept = store.read("SELECT value FROM settings WHERE name = ?", (SETTING,))
        self._use(read_routing(orjson.loads(kept[0][0])) if kept else Routing())

    # ---- configuration

    def configure(self, routing: Routing) -> None:
        """Have messages go other ways from now on, and after a restart.

        Raises:
            HubFault: 400, when blobs cannot be written; 409, when an endpoint would be lost with
                messages that wait in it.
        """
        self.archive.check(routing.containers)
        self._use(routing)
        row = (SETTING, orjson.dumps(routing.document()).decode())
        self._store.write("INSERT OR REPLACE INTO settings VALUES (?,?)", row)

    def _use(self, routing: Routing) -> None:
        self.routing = routing
        self._routes = {
            events: [r for r in routing.routes if r.is_enabled and r.source == source]
            for source, events in SOURCES.items()
        }
        self._plain = routing == Routing()
        streams = {stream.entity_path.lower(): stream for stream in routing.streams}
        for name in self.streams.keys() - streams.keys():
            del self.streams[name]
            self._store.write("DELETE FROM streams WHERE stream = ?", (name,))
        self._deliver = {BUILT_IN: self._events.append}
        for name, stream in streams.items():
            log = self.streams.setdefault(name, EventLog(self._store, name))
            self._deliver[stream.name] = log.append
        for container in routing.containers:
            self._deliver[container.name] = self.archive.collector(container)
        self.archive.use(routing.containers)

    def log(self, entity: str) -> EventLog:
        """The stream of an entity path.

        Raises:
            HubFault: 404.
        """
        if entity.lower() not in self.streams:
            raise HubFault(404, "EndpointNotFound", f"no event stream {entity[:60]!r}")
        return self.streams[entity.lower()]

    # ---- messages

    def telemetry(
        self,
        identity: Identity,
        properties: str,
        body: bytes,
        sender: Acknowledges | None = None,
        packet_id: int = 0,
    ) -> None:
        """Take a device's or module's message; its sender, if given, is told when it is safe."""
        if self._plain:
            self._events.append(identity, properties, body)
        else:
            self._send(identity, properties, body, TELEMETRY)
        if sender is not None:
            self._store.acknowledge(sender, packet_id)

    def takes(self, source: str) -> bool:
        """Whether an event of the hub's own would go anywhere at all."""
        return bool(self._routes[source])

    def emit(self, identity: Identity, properties: str, body: bytes, source: str) -> None:
        """Take an event of the hub's own about an identity."""
        self._send(identity, properties, body, source)

    def _send(self, identity: Identity, properties: str, body: bytes, source: str) -> None:
        names = self.endpoints(Message(properties, body, identity, source), source)
        for name in names:
            text = properties + self._stamps(name, identity)
            if len(text) + len(body) > BODY_LIMIT and len(text) > len(properties):
                logger.warning("a message to %s is too large with its enrichments: lost", name)
                continue
            self._deliver[name](identity, text.lstrip("&"), body, source)

    def endpoints(self, message: Message, source: str) -> list[str]:
        """Where a message goes, each endpoint once."""
        routes = [route for route in self._routes[source] if route.matches(message) is True]
        if not routes and source == TELEMETRY and self.routing.fallback.is_enabled:
            return list(self.routing.fallback.endpoint_names)
        return list(dict.fromkeys(name for route in routes for name in route.endpoint_names))

    def _stamps(self, endpoint: str, identity: Identity) -> str:
        """The enrichments of an endpoint, as they are appended to a message's properties."""
        return "".join(
            f"&{quote(one.key, safe='')}={quote(self._stamp(one, identity), safe='')}"
            for one in self.routing.enrichments
            if endpoint in one.endpoint_names
        )

    def _stamp(self, enrichment: Enrichment, identity: Identity) -> str:
        """An enrichment's value; as it was written where a twin has nothing there."""
        if enrichment.value == HUB_NAME:
            return self._name
        root, _, path = enrichment.value.partition(".")
        steps = path.split(".")
        if root.lower() != "$twin" or not _in_twin(steps):
            return enrichment.value
        value = twin_value(identity, steps)
        if value is UNDEFINED:
            return enrichment.value
        return value if isinstance(value, str) else orjson.dumps(value).decode()

    def health(self) -> list[Json]:
        """How the endpoints are, as the real service's `routingEndpointsHealth` says it."""
        streams: Iterable[str] = (BUILT_IN, *(stream.name for stream in self.routing.streams))
        well = [{"endpointId": name, "healthStatus": "healthy"} for name in streams]
        return [*well, *self.archive.health()]


def _in_twin(steps: list[str]) -> bool:
    lowered = [step.lower() for step in steps]
    return any(lowered[: len(root)] == root for root in _TWIN_ROOTS)
