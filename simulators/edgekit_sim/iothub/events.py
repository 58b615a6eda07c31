"""What devices sent, in order, in partitions, with all properties.

On the hot path an event is stored as it came: the properties stay the text they were in the MQTT
topic, and are taken apart when somebody reads them.
"""

import base64
import contextlib
import time
import zlib
from typing import Any
from urllib.parse import unquote

import orjson

from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.store import Acknowledges, Store
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


def split_properties(text: str) -> list[tuple[str, str]]:
    """The pairs of a percent-encoded `a=b&c=d`; a key without `=` has the value ""."""
    pairs = (part.partition("=") for part in text.split("&") if part)
    return [(unquote(key), unquote(value)) for key, _, value in pairs]


class EventLog:
    """The hub's events; one sequence over all partitions, and an offset in each.

    Args:
        store: where they are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        ((last,),) = store.read("SELECT coalesce(max(sequence), 0) FROM events")
        self._sequence: int = last
        self._offsets = [0] * PARTITIONS
        query = "SELECT partition, max(offset) FROM events GROUP BY partition"
        for partition, offset in store.read(query):
            self._offsets[partition] = offset

    @property
    def last(self) -> int:
        """Sequence number of the newest event; 0 when there is none."""
        return self._sequence

    def append(
        self,
        identity: Identity,
        properties: str,
        body: bytes,
        sender: Acknowledges | None = None,
        packet_id: int = 0,
        source: str = TELEMETRY,
    ) -> None:
        """Queue an event for the disk.

        Args:
            identity: who sent it.
            properties: percent-encoded pairs, as in an MQTT topic.
            body: the payload.
            sender: who is told, with `packet_id`, when it is on disk.
            packet_id: what the sender calls it.
            source: `Telemetry`, `twinChangeEvents`, `deviceLifecycleEvents` ...
        """
        partition = zlib.crc32(identity.device_id.encode()) % PARTITIONS
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
        self._store.append(row, sender, packet_id)

    def read(self, after: int, limit: int = PAGE) -> list[Json]:
        """At most `limit` events with a sequence number above `after`, in order, as JSON."""
        rows = self._store.read(
            "SELECT * FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?",
            (after, max(1, min(limit, PAGE))),
        )
        return [_document(row) for row in rows]

    def rows(self, partition: int, offset: int, limit: int) -> list[Any]:
        """At most `limit` rows of a partition, from an offset on, as the store has them."""
        return self._store.read(
            "SELECT * FROM events WHERE partition = ? AND offset >= ? ORDER BY offset LIMIT ?",
            (partition, offset, limit),
        )

    def extent(self, partition: int) -> tuple[int, int, int]:
        """First and last offset of a partition, and when the last came, in milliseconds.

        An empty partition begins at 1 and ends at 0.
        """
        ((first, last),) = self._store.read(
            "SELECT coalesce(min(offset), 1), coalesce(max(offset), 0) FROM events"
            " WHERE partition = ?",
            (partition,),
        )
        enqueued = [row[3] for row in self.rows(partition, last, 1)]
        return first, last, enqueued[0] if enqueued else 0

    def offset_after(self, partition: int, enqueued: int) -> int:
        """The first offset enqueued after a time in milliseconds since 1970."""
        ((offset,),) = self._store.read(
            "SELECT min(offset) FROM events WHERE partition = ? AND enqueued > ?",
            (partition, enqueued),
        )
        return int(offset) if offset is not None else self.extent(partition)[1] + 1

    def count(self) -> int:
        """How many events are on disk."""
        ((count,),) = self._store.read("SELECT count(*) FROM events")
        return int(count)


def system_properties(pairs: list[tuple[str, str]], row: Any) -> tuple[Json, Json]:
    """Tell application from system properties.

    Returns:
        The application properties, and the system properties under their names in an event.
    """
    application: Json = {}
    system: Json = {}
    for key, value in pairs:
        if key in SYSTEM_KEYS:
            system[SYSTEM_KEYS[key]] = value
        elif not key.startswith("$."):
            application[key] = value
    _, _, _, enqueued, device_id, module_id, source, _, _ = row
    system["iothub-connection-device-id"] = device_id
    if module_id:
        system["iothub-connection-module-id"] = module_id
    system["iothub-enqueuedtime"] = timestamp(enqueued / 1000)
    system["iothub-message-source"] = source
    return application, system


def _document(row: Any) -> Json:
    sequence, partition, offset, enqueued, device_id, module_id, _, properties, body = row
    application, system = system_properties(split_properties(properties), row)
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
    if "json" in str(system.get("content-type", "")):
        with contextlib.suppress(orjson.JSONDecodeError):  # a false content type is no crime
            return {"body": orjson.loads(body), "bodyEncoding": "json"}
    try:
        return {"body": body.decode(), "bodyEncoding": "text"}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(body).decode(), "bodyEncoding": "base64"}
