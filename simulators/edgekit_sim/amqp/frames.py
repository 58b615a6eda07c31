"""Frames: cut from the stream of bytes, and written to it (part 2, section 2.3)."""

from dataclasses import dataclass

from edgekit_sim.amqp.composites import Composite, read_composite
from edgekit_sim.amqp.decode import Decoder
from edgekit_sim.amqp.encode import encode
from edgekit_sim.amqp.errors import ConnectionFault

HEAD = 8  # bytes of a protocol header, and of the fixed part of a frame
MINIMUM = 512  # bytes of a frame that everybody must take
AMQP, SASL = 0x00, 0x01  # types of frames
EMPTY_FRAME = b"\x00\x00\x00\x08\x02\x00\x00\x00"


@dataclass(frozen=True)
class Frame:
    """A frame.

    Attributes:
        kind: AMQP or SASL.
        channel: whose session it belongs to.
        body: what it says; None in a frame that only shows that the peer is alive.
        payload: the bytes after it.
    """

    kind: int
    channel: int
    body: Composite | None
    payload: bytes = b""


class FrameReader:
    """Cuts frames from bytes that come in pieces of any size.

    Attributes:
        limit: bytes of the largest frame it takes; more is never kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._buffer = bytearray()
        self._position = 0

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        if self._position:
            del self._buffer[: self._position]
            self._position = 0
        self._buffer += data

    def header(self) -> bytes | None:
        """The protocol header at the front; None until it is there."""
        if len(self._buffer) - self._position < HEAD:
            return None
        return self._take(HEAD)

    def frame(self) -> Frame | None:
        """The frame at the front; None until all of it is there.

        Raises:
            ConnectionFault: it cannot be a frame.
        """
        available = len(self._buffer) - self._position
        if available < HEAD:
            return None
        size = int.from_bytes(self._buffer[self._position : self._position + 4])
        if not HEAD <= size <= self.limit:
            raise _framing_error(f"a frame of {size} bytes, where 8 to {self.limit} can be")
        if available < size:
            return None
        return read_frame(self._take(size))

    def _take(self, size: int) -> bytes:
        end = self._position + size
        taken = bytes(self._buffer[self._position : end])
        self._position = end
        return taken


def read_frame(data: bytes) -> Frame:
    """The frame that these bytes are.

    Raises:
        ConnectionFault: they are none.
    """
    offset, kind, channel = data[4] * 4, data[5], int.from_bytes(data[6:8])
    if not HEAD <= offset <= len(data):
        raise _framing_error("a frame whose header is longer than itself")
    if kind not in (AMQP, SASL):
        raise _framing_error(f"a frame of the type {kind}")
    if offset == len(data):
        return Frame(kind, channel, None)
    decoder = Decoder(data, offset)
    body = read_composite(decoder.value())
    return Frame(kind, channel, body, decoder.rest())


def write_frame(kind: int, channel: int, body: Composite, payload: bytes = b"") -> bytes:
    """The bytes of a frame."""
    encoded = encode(body.described())
    size = HEAD + len(encoded) + len(payload)
    return b"".join(
        (size.to_bytes(4), b"\x02", bytes((kind,)), channel.to_bytes(2), encoded, payload)
    )


def _framing_error(description: str) -> ConnectionFault:
    return ConnectionFault("amqp:connection:framing-error", description)
