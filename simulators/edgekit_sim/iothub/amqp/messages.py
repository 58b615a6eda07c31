"""AMQP messages: their sections from bytes, and bytes from what a hub has to say."""

from dataclasses import dataclass, field
from typing import Any

from edgekit_sim.iothub.amqp.types import Decoder, Described, Malformed, Symbol, Ulong, encode

ANNOTATIONS, PROPERTIES, APPLICATION, DATA, SEQUENCE, VALUE = 0x72, 0x73, 0x74, 0x75, 0x76, 0x77
# the fields of the properties section, in their order (3.2.4)
FIELDS = (
    "message_id",
    "user_id",
    "to",
    "subject",
    "reply_to",
    "correlation_id",
    "content_type",
    "content_encoding",
    "absolute_expiry_time",
    "creation_time",
    "group_id",
    "group_sequence",
    "reply_to_group_id",
)


@dataclass
class Message:
    """A message.

    Attributes:
        body: bytes (data sections), or any other value (a value section).
        properties: the standard properties that are there, by the names in `FIELDS`.
        application: the sender's own properties.
        annotations: what the service adds, by symbol.
    """

    body: Any = b""
    properties: dict[str, Any] = field(default_factory=dict)
    application: dict[str, Any] = field(default_factory=dict)
    annotations: dict[str, Any] = field(default_factory=dict)


def decode_message(data: bytes) -> Message:
    """Read a message.

    Raises:
        Malformed: it is none.
    """
    decoder, message, chunks = Decoder(data), Message(), []
    while not decoder.ended:
        section = decoder.value()
        if not isinstance(section, Described):
            raise Malformed("a section without descriptor")
        code, value = section.descriptor, section.value
        if code == PROPERTIES and isinstance(value, list):
            pairs = zip(FIELDS, value, strict=False)
            message.properties = {name: item for name, item in pairs if item is not None}
        elif code == APPLICATION and isinstance(value, dict):
            message.application = {str(key): item for key, item in value.items()}
        elif code == ANNOTATIONS and isinstance(value, dict):
            message.annotations = {str(key): item for key, item in value.items()}
        elif code == DATA and isinstance(value, bytes):
            chunks.append(value)
        elif code in (VALUE, SEQUENCE):
            message.body = value
    if chunks:
        message.body = b"".join(chunks)
    return message


def encode_message(message: Message) -> bytes:
    """The bytes of a message."""
    parts = []
    if message.annotations:
        annotations = {Symbol(key): value for key, value in message.annotations.items()}
        parts.append(_section(ANNOTATIONS, annotations))
    if message.properties:
        values = [_property(name, message.properties.get(name)) for name in FIELDS]
        while values and values[-1] is None:
            values.pop()
        parts.append(_section(PROPERTIES, values))
    if message.application:
        parts.append(_section(APPLICATION, message.application))
    if isinstance(message.body, bytes):
        parts.append(_section(DATA, message.body))
    else:
        parts.append(_section(VALUE, message.body))
    return b"".join(parts)


def _property(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in ("content_type", "content_encoding"):
        return Symbol(value)
    return value.encode() if name == "user_id" and isinstance(value, str) else value


def _section(code: int, value: Any) -> bytes:
    return encode(Described(Ulong(code), value))
