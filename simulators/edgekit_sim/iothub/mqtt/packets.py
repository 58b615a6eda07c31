"""MQTT 3.1.1 control packets: just what the hub reads and writes.

Section numbers are those of the OASIS standard, version 3.1.1.
"""

from dataclasses import dataclass

CONNECT, CONNACK, PUBLISH, PUBACK = 1, 2, 3, 4
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 8, 9, 10, 11
PINGREQ, PINGRESP, DISCONNECT = 12, 13, 14

ACCEPTED, BAD_PROTOCOL, BAD_CLIENT_ID, UNAVAILABLE, BAD_CREDENTIALS, NOT_AUTHORIZED = range(6)
REFUSED_SUBSCRIPTION = 0x80

PING_RESPONSE = b"\xd0\x00"


class Malformed(Exception):
    """Bytes that are no packet, or one the hub does not take; the connection is dropped."""


@dataclass(frozen=True)
class Connect:
    """A CONNECT packet (3.1)."""

    client_id: str
    username: str | None
    password: str | None
    clean_session: bool
    keep_alive: int
    will: tuple[str, bytes] | None
    level: int


def length_at(data: bytes, position: int) -> tuple[int, int] | None:
    """The remaining length (2.2.3) written at `position`, and where the packet's body begins.

    Returns:
        None when the bytes do not suffice yet.

    Raises:
        Malformed: it has more than four bytes.
    """
    length = 0
    for index in range(4):
        if position + index >= len(data):
            return None
        byte = data[position + index]
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return length, position + index + 1
    raise Malformed("a remaining length of more than four bytes")


class Reader:
    """Reads the fields of one packet's body, in order."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._position = 0

    def integer(self, size: int) -> int:
        """An unsigned integer of `size` bytes."""
        return int.from_bytes(self._take(size))

    def binary(self) -> bytes:
        """Bytes with their length before them."""
        return self._take(self.integer(2))

    def text(self) -> str:
        """A UTF-8 string (1.5.3): no U+0000, no surrogates."""
        try:
            text = self.binary().decode()
        except UnicodeDecodeError as error:
            raise Malformed("a string that is not UTF-8") from error
        if "\0" in text:
            raise Malformed("a string with U+0000")
        return text

    def _take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._body):
            raise Malformed("a field runs over the end of its packet")
        taken = self._body[self._position : end]
        self._position = end
        return taken

    def rest(self) -> bytes:
        """All that has not been read."""
        return self._take(len(self._body) - self._position)

    @property
    def ended(self) -> bool:
        """Whether all has been read."""
        return self._position == len(self._body)


def read_connect(body: bytes) -> Connect:
    """Read the body of a CONNECT packet.

    Raises:
        Malformed: it breaks section 3.1.
    """
    reader = Reader(body)
    if reader.text() != "MQTT":
        raise Malformed("the protocol is not MQTT")
    level = reader.integer(1)
    flags = reader.integer(1)
    keep_alive = reader.integer(2)
    if level != 4:
        return Connect("", None, None, True, 0, None, level)
    if flags & 1 or (not flags & 0x80 and flags & 0x40):
        raise Malformed("CONNECT flags that may not be")
    client_id = reader.text()
    will = None
    if flags & 0x04:
        if flags & 0x18 == 0x18:
            raise Malformed("a will with QoS 3")
        will = (reader.text(), reader.binary())
    elif flags & 0x38:
        raise Malformed("will flags without a will")
    username = reader.text() if flags & 0x80 else None
    password = None
    if flags & 0x40:
        password = reader.binary().decode("utf-8", "replace")
    if not reader.ended:
        raise Malformed("bytes after the end of CONNECT")
    return Connect(client_id, username, password, bool(flags & 2), keep_alive, will, level)


def read_publish(first: int, body: bytes) -> tuple[str, int, bytes]:
    """Topic, packet id (0 with QoS 0) and payload of a PUBLISH (3.3).

    Raises:
        Malformed: it breaks that section, or has QoS 2.
    """
    reader = Reader(body)
    topic = reader.text()
    qos = (first >> 1) & 3
    if qos > 1:
        raise Malformed("a message with QoS 2, which the service does not take")
    return topic, _packet_id(reader) if qos else 0, reader.rest()


def read_subscribe(body: bytes) -> tuple[int, list[tuple[str, int]]]:
    """Packet id and (filter, QoS) pairs of a SUBSCRIBE (3.8)."""
    reader = Reader(body)
    packet_id = _packet_id(reader)
    filters = []
    while not reader.ended:
        filters.append((reader.text(), reader.integer(1)))
        if filters[-1][1] > 2:
            raise Malformed("a subscription with QoS above 2")
    if not filters:
        raise Malformed("SUBSCRIBE without a filter")
    return packet_id, filters


def read_unsubscribe(body: bytes) -> tuple[int, list[str]]:
    """Packet id and filters of an UNSUBSCRIBE (3.10)."""
    reader = Reader(body)
    packet_id = _packet_id(reader)
    filters = []
    while not reader.ended:
        filters.append(reader.text())
    if not filters:
        raise Malformed("UNSUBSCRIBE without a filter")
    return packet_id, filters


def _packet_id(reader: Reader) -> int:
    packet_id = reader.integer(2)
    if packet_id == 0:
        raise Malformed("packet id 0")
    return packet_id


def connack(code: int, session_present: bool = False) -> bytes:
    """A CONNACK packet (3.2)."""
    return bytes((0x20, 2, session_present, code))


def puback(packet_id: int) -> bytes:
    """A PUBACK packet (3.4)."""
    return b"\x40\x02" + packet_id.to_bytes(2)


def suback(packet_id: int, codes: list[int]) -> bytes:
    """A SUBACK packet (3.9)."""
    return b"\x90" + _length(2 + len(codes)) + packet_id.to_bytes(2) + bytes(codes)


def unsuback(packet_id: int) -> bytes:
    """An UNSUBACK packet (3.11)."""
    return b"\xb0\x02" + packet_id.to_bytes(2)


def publish(topic: str, payload: bytes, packet_id: int = 0, duplicate: bool = False) -> bytes:
    """A PUBLISH packet (3.3): QoS 1 with a packet id, QoS 0 without."""
    name = topic.encode()
    first = 0x30 | (0x02 if packet_id else 0) | (0x08 if duplicate else 0)
    header = len(name).to_bytes(2) + name + (packet_id.to_bytes(2) if packet_id else b"")
    return bytes((first,)) + _length(len(header) + len(payload)) + header + payload


def _length(length: int) -> bytes:
    encoded = bytearray()
    while True:
        length, byte = divmod(length, 128)
        encoded.append(byte | 0x80 if length else byte)
        if not length:
            return bytes(encoded)
