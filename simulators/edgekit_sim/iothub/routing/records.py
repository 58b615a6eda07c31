"""Messages in blobs, in the two formats of the real service: a line of JSON each, or Avro.

Both have the same four members. In JSON the body is JSON where the message says so, else base64.
"""

import base64
import io
from collections.abc import Iterable
from typing import Any

import orjson

from edgekit_sim.iothub.events import TELEMETRY, is_json, sender_proof, tell_apart
from edgekit_sim.iothub.registry import Registry
from edgekit_sim.iothub.twins import Json, timestamp

# system properties of an event, and what blobs call them
NAMES = {
    "message-id": "messageId",
    "correlation-id": "correlationId",
    "user-id": "userId",
    "content-type": "contentType",
    "content-encoding": "contentEncoding",
}
SCHEMA = {
    "type": "record",
    "name": "Message",
    "namespace": "Microsoft.Azure.Devices",
    "fields": [
        {"name": "EnqueuedTimeUtc", "type": "string"},
        {"name": "Properties", "type": {"type": "map", "values": "string"}},
        {"name": "SystemProperties", "type": {"type": "map", "values": "string"}},
        {"name": "Body", "type": ["null", "bytes"]},
    ],
}


def write_json(records: Iterable[Json]) -> bytes:
    """Records, each on a line."""
    return b"".join(orjson.dumps(_with_readable_body(one)) + b"\n" for one in records)


def write_avro(records: Iterable[Json]) -> bytes:
    """Records in an Avro object container file."""
    import fastavro

    out = io.BytesIO()
    fastavro.writer(out, SCHEMA, records, codec="deflate")
    return out.getvalue()


WRITERS = {"json": write_json, "avro": write_avro}


def record(row: Any, registry: Registry) -> Json:
    """A message as a blob has it, its body in bytes.

    Args:
        row: enqueued (milliseconds since 1970), device, module, source, properties and body.
        registry: where its sender is looked up.
    """
    enqueued, device_id, module_id, source, properties, body = row
    moment = timestamp(enqueued / 1000)
    application, system = tell_apart(properties)
    sender = {"connectionDeviceId": device_id}
    if module_id:
        sender["connectionModuleId"] = module_id
    if source == TELEMETRY:
        method, generation = sender_proof(registry, device_id, module_id)
        sender["connectionAuthMethod"] = method
        sender["connectionDeviceGenerationId"] = generation
    return {
        "EnqueuedTimeUtc": moment,
        "Properties": application,
        "SystemProperties": {
            **{NAMES.get(name, name): value for name, value in system.items()},
            **{name: value for name, value in sender.items() if value},
            "enqueuedTime": moment,
            **({"iothub-message-source": source} if source != TELEMETRY else {}),
        },
        "Body": body,
    }


def _with_readable_body(one: Json) -> Json:
    body = one["Body"]
    if is_json(one["SystemProperties"].get("contentType", "")):
        try:
            return {**one, "Body": orjson.loads(body)}
        except orjson.JSONDecodeError:  # a false content type: then as what it is, bytes
            return {**one, "Body": base64.b64encode(body).decode()}
    return {**one, "Body": base64.b64encode(body).decode()}
