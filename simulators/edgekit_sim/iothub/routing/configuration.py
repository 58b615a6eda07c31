"""The routing section of an IoT Hub, as its resource template has it.

```yaml
endpoints:
  eventHubs:
    - name: alerts
  storageContainers:
    - name: archive
      container_name: telemetry
routes:
  - {name: hot, source: DeviceMessages, condition: "level = 'alert'", endpointNames: [alerts]}
fallbackRoute: {source: DeviceMessages, endpointNames: [events], isEnabled: true}
enrichments:
  - {key: site, value: $twin.tags.site, endpointNames: [alerts]}
```

Names, defaults and limits are those of the template, but for what a hub on one machine cannot have:
an event hub is a stream of this hub, and blobs go to the one storage account the hub knows.
"""

import re
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.events import TELEMETRY
from edgekit_sim.iothub.routing.conditions import Condition, compile_route
from edgekit_sim.iothub.twins import Json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

BUILT_IN = "events"
# what a route calls the kinds of events, and what the events say of themselves
SOURCES = {
    "DeviceMessages": TELEMETRY,
    "TwinChangeEvents": "twinChangeEvents",
    "DeviceLifecycleEvents": "deviceLifecycleEvents",
    "DeviceConnectionStateEvents": "deviceConnectionStateEvents",
}
ROUTES_LIMIT, ENDPOINTS_LIMIT, ENRICHMENTS_LIMIT = 100, 10, 10
FREQUENCY = (1, 720)  # seconds between two blobs; the real service takes no less than 60
CHUNK = (10 * 1024**2, 500 * 1024**2)  # bytes of a blob
ENCODINGS = ("avro", "json")
PLACEHOLDERS = ("{iothub}", "{partition}", "{YYYY}", "{MM}", "{DD}", "{HH}", "{mm}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_STREAM_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,254}[A-Za-z0-9])?")
_CONTAINER = re.compile(r"[a-z0-9](?:-?[a-z0-9]){2,62}")
_RESERVED = (BUILT_IN, "operationsMonitoringEvents", "fileNotifications", "$default")

T = TypeVar("T", bound="DataclassInstance")


def _wrong(message: str) -> HubFault:
    return HubFault(400, "RoutingInvalid", message)


def _check_name(name: object, what: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _wrong(f"the name of {what} is {name!r}, not 1 to 64 letters, digits and . _ -")


def _check_endpoints(names: object, what: str) -> None:
    if not isinstance(names, tuple) or not names or not all(isinstance(n, str) for n in names):
        raise _wrong(f"{what} must have endpointNames, a list of names")


@dataclass(frozen=True)
class EventStream:
    """An endpoint that azure-eventhub reads, as it reads the built-in one.

    Attributes:
        name: what routes call it.
        entity_path: what its readers call it; its name, if it is not said.
    """

    name: str
    entity_path: str = ""

    def __post_init__(self) -> None:
        _check_name(self.name, "an event hub endpoint")
        object.__setattr__(self, "entity_path", self.entity_path or self.name)
        if not isinstance(self.entity_path, str) or not _STREAM_NAME.fullmatch(self.entity_path):
            raise _wrong(f"endpoint {self.name!r} has the entityPath {self.entity_path!r}")


@dataclass(frozen=True)
class StorageContainer:
    """An endpoint that collects messages in blobs.

    Attributes:
        name: what routes call it.
        container_name: the container; somebody has made it.
        file_name_format: how its blobs are called; the time is that of the blob, in UTC.
        batch_frequency_in_seconds: how often a blob is written, if something waits.
        max_chunk_size_in_bytes: how much may wait until a blob is written before its time.
        encoding: `avro` or `json` (an object a line).
    """

    name: str
    container_name: str
    file_name_format: str = "{iothub}/{partition}/{YYYY}/{MM}/{DD}/{HH}/{mm}"
    batch_frequency_in_seconds: int = 300
    max_chunk_size_in_bytes: int = 300 * 1024**2
    encoding: str = "avro"

    def __post_init__(self) -> None:
        _check_name(self.name, "a storage endpoint")
        what = f"endpoint {self.name!r}:"
        if not isinstance(self.container_name, str) or not _CONTAINER.fullmatch(
            self.container_name
        ):
            raise _wrong(f"{what} {self.container_name!r} is no name of a container")
        text = self.file_name_format
        missing = [p for p in PLACEHOLDERS if not isinstance(text, str) or text.count(p) != 1]
        if missing:
            raise _wrong(f"{what} fileNameFormat must have {missing[0]} once")
        for name, value, (least, most) in (
            ("batchFrequencyInSeconds", self.batch_frequency_in_seconds, FREQUENCY),
            ("maxChunkSizeInBytes", self.max_chunk_size_in_bytes, CHUNK),
        ):
            if type(value) is not int or not least <= value <= most:
                raise _wrong(f"{what} {name} must be {least} to {most}")
        if str(self.encoding).lower() not in ENCODINGS:
            raise _wrong(f"{what} encoding {self.encoding!r} is not {' or '.join(ENCODINGS)}")
        object.__setattr__(self, "encoding", self.encoding.lower())


@dataclass(frozen=True)
class Route:
    """Takes messages of a source that meet a condition to endpoints.

    Attributes:
        matches: the condition, compiled.
    """

    name: str
    source: str
    endpoint_names: tuple[str, ...]
    condition: str = "true"
    is_enabled: bool = True
    matches: Condition = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_name(self.name, "a route")
        what = f"route {self.name!r}"
        if not isinstance(self.source, str) or self.source not in SOURCES:
            raise _wrong(f"{what}: source {self.source!r} is none of {', '.join(SOURCES)}")
        _check_endpoints(self.endpoint_names, what)
        if not isinstance(self.condition, str) or type(self.is_enabled) is not bool:
            raise _wrong(f"{what}: condition must be text, isEnabled true or false")
        try:
            matches = compile_route(self.condition or "true")
        except HubFault as fault:
            raise _wrong(f"{what}: {fault}") from fault
        object.__setattr__(self, "matches", matches)


@dataclass(frozen=True)
class Fallback:
    """Where messages of devices go that no route takes; nowhere, when it is not enabled."""

    is_enabled: bool = False
    endpoint_names: tuple[str, ...] = (BUILT_IN,)
    source: str = "DeviceMessages"
    condition: str = "true"
    name: str = "$fallback"

    def __post_init__(self) -> None:
        _check_endpoints(self.endpoint_names, "fallbackRoute")
        if type(self.is_enabled) is not bool or len(self.endpoint_names) != 1:
            raise _wrong("fallbackRoute must have one endpoint, and isEnabled true or false")
        if self.source != "DeviceMessages" or self.condition != "true":
            raise _wrong("fallbackRoute takes DeviceMessages on the condition 'true', no others")


@dataclass(frozen=True)
class Enrichment:
    """An application property that messages get on their way to some endpoints."""

    key: str
    value: str
    endpoint_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.key, str) or not _NAME.fullmatch(self.key):
            raise _wrong(f"enrichment key {self.key!r} is not 1 to 64 letters, digits and . _ -")
        if not isinstance(self.value, str) or not self.value:
            raise _wrong(f"enrichment {self.key!r} must have a value, a text")
        _check_endpoints(self.endpoint_names, f"enrichment {self.key!r}")


@dataclass(frozen=True)
class Routing:
    """All of it; what a new hub has by default."""

    streams: tuple[EventStream, ...] = ()
    containers: tuple[StorageContainer, ...] = ()
    routes: tuple[Route, ...] = ()
    fallback: Fallback = Fallback(is_enabled=True)
    enrichments: tuple[Enrichment, ...] = ()

    def __post_init__(self) -> None:
        names = [stream.name for stream in self.streams]
        names += [container.name for container in self.containers]
        for what, keys in (
            ("endpoint", names),
            ("route", [route.name for route in self.routes]),
            ("entityPath", [stream.entity_path for stream in self.streams]),
            ("enrichment", [enrichment.key for enrichment in self.enrichments]),
        ):
            _check_once(what, keys)
        for name in names:
            if name.lower() in map(str.lower, _RESERVED):
                raise _wrong(f"no endpoint can be called {name!r}")
        for what, found, limit in (
            ("routes", len(self.routes), ROUTES_LIMIT),
            ("endpoints", len(names), ENDPOINTS_LIMIT),
            ("enrichments", len(self.enrichments), ENRICHMENTS_LIMIT),
        ):
            if found > limit:
                raise _wrong(f"{found} {what} are more than the {limit} a hub can have")
        known = {BUILT_IN, *names}
        for what, user in self._users():
            for name in user:
                if name not in known:
                    raise _wrong(f"{what} names the endpoint {name!r}, which is not there")

    def _users(self) -> Iterable[tuple[str, tuple[str, ...]]]:
        yield "fallbackRoute", self.fallback.endpoint_names
        for route in self.routes:
            yield f"route {route.name!r}", route.endpoint_names
        for enrichment in self.enrichments:
            yield f"enrichment {enrichment.key!r}", enrichment.endpoint_names

    def document(self) -> Json:
        """It as a user would write it, with all defaults."""
        return {
            "endpoints": {
                "eventHubs": [_written(stream) for stream in self.streams],
                "storageContainers": [_written(container) for container in self.containers],
            },
            "routes": [_written(route) for route in self.routes],
            "fallbackRoute": _written(self.fallback),
            "enrichments": [_written(enrichment) for enrichment in self.enrichments],
        }


def _written(part: Any) -> Json:
    return {_camel(one.name): getattr(part, one.name) for one in fields(part) if one.init}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _check_once(what: str, keys: list[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key.lower() in seen:
            raise _wrong(f"there are two of the {what} {key!r}")
        seen.add(key.lower())


def read_routing(document: object) -> Routing:
    """Read a routing section; a fallback route that is not there is not enabled.

    Raises:
        HubFault: 400, saying in one line what is wrong where.
    """
    sections = _section(
        document, "routing", ("endpoints", "routes", "fallbackRoute", "enrichments")
    )
    endpoints = _section(
        sections.get("endpoints") or {},
        "endpoints",
        ("eventHubs", "storageContainers", "serviceBusQueues", "serviceBusTopics"),
    )
    for name in ("serviceBusQueues", "serviceBusTopics"):
        if endpoints.get(name):
            raise _wrong(f"endpoints: there is no Service Bus here for {name}; use eventHubs")
    (fallback,) = _read(Fallback, [sections.get("fallbackRoute") or {}], "fallbackRoute")
    containers = endpoints.get("storageContainers")
    return Routing(
        _read(EventStream, endpoints.get("eventHubs"), "endpoints.eventHubs"),
        _read(StorageContainer, containers, "endpoints.storageContainers"),
        _read(Route, sections.get("routes"), "routes"),
        fallback,
        _read(Enrichment, sections.get("enrichments"), "enrichments"),
    )


def read_route(document: object) -> Route:
    """Read one route.

    Raises:
        HubFault: 400.
    """
    return _read(Route, [document], "route")[0]


def _section(document: object, what: str, known: Iterable[str]) -> Json:
    if not isinstance(document, dict):
        raise _wrong(f"{what} must be an object with {', '.join(known)}")
    for key in document:
        if key not in known:
            raise _wrong(f"{what} has {str(key)[:60]!r}, which is none of {', '.join(known)}")
    return document


def _read(kind: type[T], documents: object, what: str) -> tuple[T, ...]:
    if documents is None:
        return ()
    if not isinstance(documents, list):
        raise _wrong(f"{what} must be a list")
    parts = {_camel(part.name): part for part in fields(kind) if part.init}
    found = []
    for number, document in enumerate(documents):
        where = f"{what}[{number}]"
        given = {}
        for key, value in _section(document, where, tuple(parts)).items():
            given[parts[key].name] = tuple(value) if isinstance(value, list) else value
        for key, part in parts.items():
            if part.name not in given and part.default is MISSING:
                raise _wrong(f"{where} has no {key}")
        found.append(kind(**given))
    return tuple(found)
