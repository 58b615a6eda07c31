"""Events of the hub's own: twins that change, identities that come and go, clients that connect.

Their properties and bodies are those of "Azure IoT Hub non-telemetry event schemas" in the
service's documentation. Routes take them to endpoints; one that no route wants is not even made.
"""

import itertools
import secrets
import time
from dataclasses import dataclass
from typing import Protocol

import orjson

from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.properties import encode_properties
from edgekit_sim.iothub.registry import Registry, TwinChange
from edgekit_sim.iothub.twins import Json, timestamp

TWIN_CHANGES = "twinChangeEvents"
LIFECYCLE = "deviceLifecycleEvents"
CONNECTIONS = "deviceConnectionStateEvents"
_FILETIME_EPOCH = 11_644_473_600  # seconds from 1601 to 1970


class Routes(Protocol):
    """What takes events to their endpoints."""

    def takes(self, source: str) -> bool:
        """Whether events of a source would go anywhere."""

    def emit(self, identity: Identity, properties: str, body: bytes, source: str) -> None:
        """Take an event."""


@dataclass(frozen=True)
class _Kind:
    """A kind of events: where they come from, and the schema they name."""

    source: str
    schema: str


_TWIN = _Kind(TWIN_CHANGES, "twinChangeNotification")
_IDENTITY = _Kind(LIFECYCLE, "deviceLifecycleNotification")
_CONNECTION = _Kind(CONNECTIONS, "deviceConnectionStateNotification")


class StateEvents:
    """Makes the events.

    Args:
        name: the hub's.
        routes: where they go.
        registry: tells of twins and identities.
    """

    def __init__(self, name: str, routes: Routes, registry: Registry) -> None:
        self._name = name
        self._routes = routes
        # grows over restarts, too: the time of the start, and a counter
        self._start = int((time.time() + _FILETIME_EPOCH) * 10_000_000)
        self._count = itertools.count(1)
        registry.on_created.append(self._created)
        registry.on_deleted.append(self._deleted)
        registry.on_twin.append(self._twin_changed)

    def connected(self, identity: Identity) -> None:
        """A client has connected."""
        self._connection(identity, "deviceConnected")

    def disconnected(self, identity: Identity) -> None:
        """A client has gone."""
        self._connection(identity, "deviceDisconnected")

    def _connection(self, identity: Identity, operation: str) -> None:
        if self._routes.takes(CONNECTIONS):
            number = f"{0:016X}{self._start:016X}{2:08X}{next(self._count):024X}"
            self._emit(_CONNECTION, identity, operation, {"sequenceNumber": number})

    def _created(self, identity: Identity) -> None:
        if self._routes.takes(LIFECYCLE):
            self._emit(_IDENTITY, identity, "createDeviceIdentity", _whole_twin(identity))

    def _deleted(self, identity: Identity) -> None:
        if self._routes.takes(LIFECYCLE):
            self._emit(_IDENTITY, identity, "deleteDeviceIdentity", _whole_twin(identity))

    def _twin_changed(self, identity: Identity, change: TwinChange) -> None:
        if not self._routes.takes(TWIN_CHANGES):
            return
        if change.replaced:
            self._emit(_TWIN, identity, "replaceTwin", _whole_twin(identity))
        else:
            self._emit(_TWIN, identity, "updateTwin", _changes(identity, change))

    def _emit(self, kind: _Kind, identity: Identity, operation: str, body: Json) -> None:
        properties = {
            "$.ct": "application/json",
            "$.ce": "utf-8",
            "$.cid": secrets.token_hex(6),
            "$.uid": self._name,
            "hubName": self._name,
            "deviceId": identity.device_id,
            **({"moduleId": identity.module_id} if identity.module_id else {}),
            "operationTimestamp": timestamp(),
            "iothub-message-schema": kind.schema,
            "opType": operation,
        }
        text = encode_properties(properties)
        self._routes.emit(identity, text, orjson.dumps(body), kind.source)


def _whole_twin(identity: Identity) -> Json:
    twin = identity.twin
    return {
        "deviceId": identity.device_id,
        **({"moduleId": identity.module_id} if identity.module_id else {}),
        "etag": twin.etag,
        "version": twin.version,
        **({"tags": twin.tags} if twin.tags else {}),
        "properties": {
            "desired": twin.desired.for_service(),
            "reported": twin.reported.for_service(),
        },
    }


def _changes(identity: Identity, change: TwinChange) -> Json:
    """What was changed, a removed key as null, with the times of just these changes."""
    twin = identity.twin
    properties = {
        name: section.changes(patch)
        for name, section, patch in (
            ("desired", twin.desired, change.desired),
            ("reported", twin.reported, change.reported),
        )
        if patch is not None
    }
    return {
        "version": twin.version,
        **({"tags": change.tags} if change.tags is not None else {}),
        **({"properties": properties} if properties else {}),
    }
