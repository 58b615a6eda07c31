"""Messages: their sections from bytes, and bytes from sections (part 3, section 3.2)."""

from dataclasses import dataclass, field
from typing import Any

from edgekit_sim.amqp.decode import Decoder
from edgekit_sim.amqp.encode import encode
from edgekit_sim.amqp.errors import Malformed
from edgekit_sim.amqp.types import Described, Symbol, Ulong

HEADER, DELIVERY_ANNOTATIONS, MESSAGE_ANNOTATIONS, PROPERTIES = 0x70, 0x71, 0x72, 0x73
APPLICATION_PROPERTIES, DATA, SEQUENCE, VALUE, FOOTER = 0x74, 0x75, 0x76, 0x77, 0x78
_CODES: dict[Any, int] = {
    Symbol("amqp:header:list"): HEADER,
    Symbol("amqp:delivery-annotations:map"): DELIVERY_ANNOTATIONS,
    Symbol("amqp:message-annotations:map"): MESSAGE_ANNOTATIONS,
    Symbol("amqp:properties:list"): PROPERTIES,
    Symbol("amqp:application-properties:map"): APPLICATION_PROPERTIES,
    Symbol("amqp:data:binary"): DATA,
    Symbol("amqp:amqp-sequence:list"): SEQUENCE,
    Symbol("amqp:amqp-value:*"): VALUE,
    Symbol("amqp:footer:map"): FOOTER,
}
# the fields of the properties section, in their order
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
_SYMBOLS = ("content_type", "content_encoding")


@dataclass
class Message:
    """A message.

    Attributes:
        body: `bytes` of the data sections, a list of lists (sequences), or a single `Value`.
        properties: the standard properties that are there, by the names in `FIELDS`.
        application: the sender's own properties.
        annotations: what brokers add, by symbol.
        delivery_annotations: what brokers add for the next hop only.
    """

    body: Any = b""
    properties: dict[str, Any] = field(default_factory=dict)
    application: dict[str, Any] = field(default_factory=dict)
    annotations: dict[str, Any] = field(default_factory=dict)
    delivery_annotations: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Value:
    """A body that is one value of any type."""

    value: Any


def read_message(data: bytes) -> Message:
    """Read a message.

    Raises:
        Malformed: the bytes are none.
    """
    decoder, message = Decoder(data), Message()
    chunks: list[bytes] = []
    while not decoder.ended:
        section = decoder.value()
        if not isinstance(section, Described) or not isinstance(section.descriptor, Ulong | Symbol):
            raise Malformed("a section of a message without its descriptor")
        code, value = _CODES.get(section.descriptor, section.descriptor), section.value
        if code == DATA:
            chunks.append(_of(bytes, value))
        elif code == SEQUENCE:
            if not isinstance(message.body, list):
                message.body = []
            message.body.append(_of(list, value))
        elif code == VALUE:
            message.body = Value(value)
        elif code == PROPERTIES:
            pairs = zip(FIELDS, _of(list, value), strict=False)
            message.properties = {name: item for name, item in pairs if item is not None}
        elif code == APPLICATION_PROPERTIES:
            message.application = _named(value)
        elif code == MESSAGE_ANNOTATIONS:
            message.annotations = _named(value)
        elif code == DELIVERY_ANNOTATIONS:
            message.delivery_annotations = _named(value)
        elif code not in (HEADER, FOOTER):
            raise Malformed(f"a message has no section {section.descriptor!r}")
    if chunks:
        message.body = b"".join(chunks)
    return message


def write_message(message: Message) -> bytes:
    """The bytes of a message."""
    parts = []
    if message.delivery_annotations:
        parts.append(_section(DELIVERY_ANNOTATIONS, _symbolic(message.delivery_annotations)))
    if message.annotations:
        parts.append(_section(MESSAGE_ANNOTATIONS, _symbolic(message.annotations)))
    if message.properties:
        values = [_property(name, message.properties.get(name)) for name in FIELDS]
        while values and values[-1] is None:
            values.pop()
        parts.append(_section(PROPERTIES, values))
    if message.application:
        parts.append(_section(APPLICATION_PROPERTIES, message.application))
    if isinstance(message.body, Value):
        parts.append(_section(VALUE, message.body.value))
    elif isinstance(message.body, list):
        parts += [_section(SEQUENCE, one) for one in message.body]
    else:
        parts.append(_section(DATA, message.body))
    return b"".join(parts)


def _property(name: str, value: Any) -> Any:
    if name in _SYMBOLS and value is not None:
        return Symbol(value)
    return value.encode() if name == "user_id" and isinstance(value, str) else value


def _symbolic(annotations: dict[str, Any]) -> dict[Symbol, Any]:
    return {Symbol(key): value for key, value in annotations.items()}


def _named(value: Any) -> dict[str, Any]:
    return {str(key): item for key, item in _of(dict, value).items()}


def _of(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise Malformed(f"a section of a message that is no {kind.__name__}")
    return value


def _section(code: int, value: Any) -> bytes:
    return encode(Described(Ulong(code), value))


def text_of(value: Any) -> str:
    """A property as text; "" for what is neither text nor bytes nor number."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, str):
        return str(value)
    return "" if value is None or isinstance(value, list | dict) else str(value)
