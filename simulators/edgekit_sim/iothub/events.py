"""What devices sent, in order, in partitions, with all properties.

The hub's built-in endpoint is such a log, and so is each event stream that routes lead to. On the
hot path an event is stored as it came: the properties stay the text they were in the MQTT
topic, and are taken apart when somebody reads them.
"""

import base64
import contextlib
import time
import zlib
from typing import Any

import orjson

from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.properties import split_properties
from edgekit_sim.iothub.registry import Registry
from edgekit_sim.iothub.store import Store
from edgekit_sim.iothub.twins import Json, timestamp

PARTITIONS = 4
BODY_LIMIT = 256 * 1024  # bytes of a message with its properties
PAGE = 1000  # events in one answer

# keys in a topic, and the names of the same in an event
SYSTEM_KEYS = {
    "$.mid": "message-id",
    "$.cid": "correlation-id",
    "$.uid": "user-id",
    "$.ct": "content-type",
    "$.ce": "content-encoding",
    "$.exp": "absolute-expiry-time",
    "$.on": "iothub-output-name",
    "$.ifid": "iothub-interface-id",
    "$.sub": "dt-subject",
    "$.ctime": "iothub-creation-time-utc",
}
TELEMETRY = "Telemetry"
_BUILT_IN = "WITH log AS (SELECT * FROM events) "
_STREAM = (
    "WITH log AS (SELECT sequence, partition, offset, enqueued, device_id, module_id, source,"
    " properties, body FROM streams WHERE stream = ?) "
)
_INSERT = "INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?)"
_DELETE = "DELETE FROM events WHERE TRUE"
_DELETE_IN_STREAM = "DELETE FROM streams WHERE stream = ?"
_INSERT_IN_STREAM = "INSERT INTO streams VALUES (?,?,?,?,?,?,?,?,?,?)"


def partition_of(device_id: str) -> int:
    """The partition that has all events of a device."""
    return zlib.crc32(device_id.encode()) % PARTITIONS


class EventLog:
    """A log of events; one sequence over all partitions, and an offset in each.

    Args:
        store: where they are kept.
        stream: which of the streams that routes lead to; "" for the built-in endpoint.
    """

    def __init__(self, store: Store, stream: str = "") -> None:
        self._store = store
        self._key: tuple[str, ...] = (stream,) if stream else ()
        self._insert = _INSERT_IN_STREAM if stream else _INSERT
        self._delete = _DELETE_IN_STREAM if stream else _DELETE
        self._log = _STREAM if stream else _BUILT_IN
        ((last,),) = self._select("SELECT coalesce(max(sequence), 0) FROM log")
        self._sequence: int = last
        self._offsets = [0] * PARTITIONS
        for partition in range(PARTITIONS):
            _, self._offsets[partition], _ = self.extent(partition)

    def _select(self, statement: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        """Rows of a statement over `log`."""
        return self._store.read(self._log + statement, self._key + parameters)

    @property
    def last(self) -> int:
        """Sequence number of the newest event; 0 when there is none."""
        return self._sequence

    def append(
        self,
        identity: Identity,
        properties: str,
        body: bytes,
        source: str = TELEMETRY,
    ) -> None:
        """Queue an event for the disk.

        Args:
            identity: who sent it.
            properties: percent-encoded pairs, as in an MQTT topic.
            body: the payload.
            source: `Telemetry`, `twinChangeEvents`, `deviceLifecycleEvents` ...
        """
        partition = partition_of(identity.device_id)
        self._sequence += 1
        self._offsets[partition] += 1
        row = (
            self._sequence,
            partition,
            self._offsets[partition],
            time.time_ns() // 1_000_000,
            identity.device_id,
            identity.module_id,
            source,
            properties,
            body,
        )
        self._store.append(self._insert, self._key + row)

    def read(self, after: int, limit: int = PAGE) -> list[Json]:
        """At most `limit` events with a sequence number above `after`, in order, as JSON."""
        rows = self._select(
            "SELECT * FROM log WHERE sequence > ? ORDER BY sequence LIMIT ?",
            (after, max(1, min(limit, PAGE))),
        )
        return [_document(row) for row in rows]

    def rows(self, partition: int, offset: int, limit: int) -> list[Any]:
        """At most `limit` rows of a partition, from an offset on, as the store has them."""
        return self._select(
            "SELECT * FROM log WHERE partition = ? AND offset >= ? ORDER BY offset LIMIT ?",
            (partition, offset, limit),
        )

    def extent(self, partition: int) -> tuple[int, int, int]:
        """First and last offset of a partition, and when the last came, in milliseconds.

        An empty partition begins at 1 and ends at 0.
        """
        smallest = "SELECT coalesce(min(offset), 1) FROM log WHERE partition = ?"
        largest = "SELECT coalesce(max(offset), 0) FROM log WHERE partition = ?"
        ((first,),) = self._select(smallest, (partition,))
        ((last,),) = self._select(largest, (partition,))
        enqueued = [row[3] for row in self.rows(partition, last, 1)]
        return first, last, enqueued[0] if enqueued else 0

    def offset_after(self, partition: int, enqueued: int) -> int:
        """The first offset enqueued after a time in milliseconds since 1970.

        Found by halving, as events stand in a partition in the order in which they came.
        """
        first, last, _ = self.extent(partition)
        below, above = first, last + 1
        while below < above:
            middle = (below + above) // 2
            statement = (
                "SELECT enqueued FROM log WHERE partition = ? AND offset >= ?"
                " ORDER BY offset LIMIT 1"
            )
            ((found,),) = self._select(statement, (partition, middle))
            if found > enqueued:
                above = middle
            else:
                below = middle + 1
        return below

    def drop(self, before: int, limit: int) -> bool:
        """Queue the removal of the oldest events; the newest of each partition stays.

        Args:
            before: only those enqueued before this time, in milliseconds since 1970.
            limit: at most so many.

        Returns:
            Whether there was one; there may be more.
        """
        oldest = "SELECT sequence, enqueued FROM log ORDER BY sequence LIMIT ?"
        old = [
            sequence
            for sequence, enqueued in self._select(oldest, (limit + PARTITIONS,))
            if enqueued < before
        ]
        newest = self._newest()
        gone = [sequence for sequence in old if sequence not in newest][:limit]
        if not gone:
            return False
        kept = [sequence for sequence in newest if sequence <= gone[-1]]
        marks = ",".join("?" * len(kept))
        self._store.write(
            f"{self._delete} AND sequence <= ? AND sequence NOT IN ({marks})",
            (*self._key, gone[-1], *kept),
        )
        return True

    def _newest(self) -> set[int]:
        """The newest event of each partition that is on disk."""
        statement = "SELECT sequence FROM log WHERE partition = ? ORDER BY offset DESC LIMIT 1"
        return {
            sequence
            for partition in range(PARTITIONS)
            for (sequence,) in self._select(statement, (partition,))
        }


def tell_apart(properties: str) -> tuple[Json, Json]:
    """Tell application from system properties.

    Args:
        properties: percent-encoded pairs, as in an MQTT topic.

    Returns:
        The application properties, and the system properties under their names in an event.
    """
    application: Json = {}
    system: Json = {}
    for key, value in split_properties(properties):
        if key in SYSTEM_KEYS:
            system[SYSTEM_KEYS[key]] = value
        elif not key.startswith("$."):
            application[key] = value
    return application, system


def _all_properties(properties: str, row: Any) -> tuple[Json, Json]:
    """What `tell_apart` gives, with what the hub adds."""
    application, system = tell_apart(properties)
    _, _, _, enqueued, device_id, module_id, source, _, _ = row
    system["iothub-connection-device-id"] = device_id
    if module_id:
        system["iothub-connection-module-id"] = module_id
    system["iothub-enqueuedtime"] = timestamp(enqueued / 1000)
    system["iothub-message-source"] = source
    return application, system


def is_json(content_type: str) -> bool:
    """Whether a body says that it is JSON."""
    return "json" in content_type


def sender_proof(registry: Registry, device_id: str, module_id: str) -> tuple[str, str]:
    """How a sender proved who it is (JSON), and its generation; "" when it is not registered."""
    identity = registry.find(device_id, module_id)
    if identity is None:
        return "", ""
    kinds = {"selfSigned": "x509Certificate", "certificateAuthority": "x509Certificate"}
    method = {
        "scope": "module" if module_id else "device",
        "type": kinds.get(identity.authentication, identity.authentication),
        "issuer": "iothub",
        "acceptingIpFilterRule": None,
    }
    return orjson.dumps(method).decode(), identity.generation_id


def _document(row: Any) -> Json:
    sequence, partition, offset, enqueued, device_id, module_id, _, properties, body = row
    application, system = _all_properties(properties, row)
    return {
        "sequence": sequence,
        "partition": partition,
        "offset": offset,
        "deviceId": device_id,
        "moduleId": module_id or None,
        "enqueuedTime": timestamp(enqueued / 1000),
        "properties": application,
        "systemProperties": system,
        **_body(body, system),
    }


def _body(body: bytes, system: Json) -> Json:
    """The body: JSON where it says it is and is, else text where it is UTF-8, else base64."""
    if is_json(system.get("content-type", "")):
        with contextlib.suppress(orjson.JSONDecodeError):  # a false content type is no crime
            return {"body": orjson.loads(body), "bodyEncoding": "json"}
    try:
        return {"body": body.decode(), "bodyEncoding": "text"}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(body).decode(), "bodyEncoding": "base64"}
