"""Events as azure-eventhub reads them from an IoT Hub."""

from typing import Any

from edgekit_sim.amqp.message import Message
from edgekit_sim.amqp.types import Timestamp
from edgekit_sim.iothub.events import SYSTEM_KEYS, TELEMETRY, sender_proof
from edgekit_sim.iothub.properties import split_properties
from edgekit_sim.iothub.registry import Registry

# system properties that are standard properties of an AMQP message, by their keys in a topic
STANDARD = {
    "$.mid": "message_id",
    "$.cid": "correlation_id",
    "$.uid": "user_id",
    "$.ct": "content_type",
    "$.ce": "content_encoding",
}


def event_message(row: Any, registry: Registry) -> Message:
    """The message for an event.

    Args:
        row: the event as the store has it.
        registry: where its sender is looked up.
    """
    _, _, offset, enqueued, device_id, module_id, source, properties, body = row
    message = Message(body=body)
    message.annotations = {
        "x-opt-sequence-number": offset,
        "x-opt-offset": str(offset),
        "x-opt-enqueued-time": Timestamp(enqueued),
        "iothub-connection-device-id": device_id,
        **({"iothub-connection-module-id": module_id} if module_id else {}),
        **(_sender(registry, device_id, module_id) if source == TELEMETRY else {}),
        "iothub-enqueuedtime": Timestamp(enqueued),
        "iothub-message-source": source,
    }
    for key, value in split_properties(properties):
        if key in STANDARD:
            message.properties[STANDARD[key]] = value
        elif key in SYSTEM_KEYS:
            message.annotations[SYSTEM_KEYS[key]] = value
        elif not key.startswith("$."):
            message.application[key] = value
    _keep_symbols(message.properties)
    if message.properties:  # azure-eventhub fails over properties without a content type
        message.properties.setdefault("content_type", "application/octet-stream")
    return message


def _keep_symbols(properties: dict[str, Any]) -> None:
    """Drop what cannot be a symbol, and so not be told: symbols are ASCII."""
    for name in ("content_type", "content_encoding"):
        if not properties.get(name, "").isascii():
            del properties[name]


def _sender(registry: Registry, device_id: str, module_id: str) -> dict[str, str]:
    """How a message's sender proved who it is, as far as it is still registered."""
    method, generation = sender_proof(registry, device_id, module_id)
    if not method:
        return {}
    return {
        "iothub-connection-auth-method": method,
        "iothub-connection-auth-generation-id": generation,
    }


def partition_state(last: int, enqueued: int, now: int) -> dict[str, Any]:
    """What a receiver that tracks its partition is told of it with each event.

    Args:
        last: the last offset.
        enqueued: when that came, milliseconds since 1970 (UTC).
        now: the time of this, the same.
    """
    return {
        "last_enqueued_sequence_number": last,
        "last_enqueued_offset": str(last),
        "last_enqueued_time_utc": Timestamp(enqueued),
        "runtime_info_retrieval_time_utc": Timestamp(now),
    }
