"""The frames of a board's serial link; docs/npu-link.md is their specification.

A frame is an operation, an argument, a count of 32-bit words, those words, and a CRC-16 over all of
it: five bytes and four for each word. Every request has one reply.
"""

import binascii
from dataclasses import dataclass
from enum import IntEnum

from edgekit_fpga.driver.port import WORD_BYTES

HEAD, CHECK = 3, 2  # bytes before and behind the words
MAX_WORDS = 255
MAX_FRAME = HEAD + MAX_WORDS * WORD_BYTES + CHECK
REPLY = 0x80  # is added to the operation in a reply


class Operation(IntEnum):
    """What a request asks for. A byte of `IDLE` where a frame could begin is skipped."""

    IDLE = 0
    READ = 1
    WRITE = 2
    SEND = 3
    RECEIVE = 4
    RESET = 5


class Status(IntEnum):
    """How a request ended; the argument of its reply."""

    OKAY = 0
    REFUSED = 2
    STALLED = 4
    DAMAGED = 8


@dataclass(frozen=True)
class Frame:
    """A request or a reply.

    Attributes:
        operation: of a reply, `REPLY` is added.
        argument: a register of READ and WRITE, words wanted by RECEIVE, the status of a reply.
        words: whole 32-bit words, little-endian.
    """

    operation: int
    argument: int = 0
    words: bytes = b""

    def __post_init__(self) -> None:
        if len(self.words) % WORD_BYTES or len(self.words) > MAX_WORDS * WORD_BYTES:
            raise ValueError(f"{len(self.words)} bytes are no words of a frame")

    def encode(self) -> bytes:
        """The frame on the wire."""
        head = bytes([self.operation, self.argument, len(self.words) // WORD_BYTES])
        return head + self.words + check(head + self.words)


def check(data: bytes) -> bytes:
    """CRC-16 with polynomial 0x1021 from 0xffff, the high byte first: CRC-16/IBM-3740."""
    return binascii.crc_hqx(data, 0xFFFF).to_bytes(CHECK, "big")


def length(head: bytes) -> int:
    """Bytes of the whole frame that begins with these `HEAD` bytes."""
    return HEAD + WORD_BYTES * head[2] + CHECK


def decode(data: bytes) -> Frame | None:
    """The frame in `data`, which has its `length`; None where it is damaged."""
    body = data[:-CHECK]
    if check(body) != data[-CHECK:]:
        return None
    return Frame(body[0], body[1], body[HEAD:])
