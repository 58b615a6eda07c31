"""The difference between two files of the same kind, small where most values stayed near.

The new file is cut into blocks. Each is kept as the exclusive or with as many bytes of the old file
(at the same place, or where a piece of it was found again), sorted into four planes by the place of
a byte in its 32-bit word, and compressed with zstd. Weights that were not trained further are zero
in all planes, those that moved a little are zero in the planes of sign, exponent and first digits.
A block that has nothing of the old file is compressed alone.

    magic "edgekitD", version 1 (u32), block size (u32), size of the new file (u64), and for each
    block: where it starts in the old file (i64; the least one: nowhere), length (u32), zstd frame

All numbers are little-endian. What is read is bounded by the block size, whatever a file says.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import zstandard

from edgekit.errors import Corrupt
from edgekit.oci.compression import Sink

BLOCK = 1024 * 1024
_MAGIC = b"edgekitD"
_VERSION = 1
_HEAD = struct.Struct("<8sIIQ")
_RECORD = struct.Struct("<qI")
_NOWHERE = -(2**63)
_LEVEL = 3
# how a block is looked for in the old file: so many pieces of it, each of so many bytes, so far off
_PIECES, _PIECE, _REACH = 8, 32, 4 * 1024 * 1024


def write_difference(old: BinaryIO, old_size: int, new: BinaryIO, new_size: int, to: Sink) -> None:
    """Write what makes `new` of `old`.

    Args:
        old: can be sought in; as `new`.
        old_size: in bytes; as `new_size`.
        new: what is to come out.
        new_size: in bytes.
        to: takes the difference.
    """
    to.write(_HEAD.pack(_MAGIC, _VERSION, BLOCK, new_size))
    shift = 0
    for start in range(0, new_size, BLOCK):
        new.seek(start)
        block = new.read(min(BLOCK, new_size - start))
        packed = {_NOWHERE: _pack(block, b"")}
        for source in {start, start + shift, _found_again(old, old_size, block, start + shift)}:
            if -len(block) < source < old_size:
                packed[source] = _pack(block, _below(old, source, len(block)))
        source = min(packed, key=lambda place: len(packed[place]))
        shift = source - start if source != _NOWHERE else shift
        to.write(_RECORD.pack(source, len(packed[source])) + packed[source])


def apply_difference(difference: BinaryIO, old: BinaryIO, size: int) -> Iterator[bytes]:
    """The new file, block by block.

    Args:
        difference: as `write_difference` wrote it, or anything that pretends to be.
        old: can be sought in.
        size: what the new file must have, in bytes.

    Raises:
        Corrupt: the difference is none, or makes a file of another size.
    """
    head = difference.read(_HEAD.size)
    if len(head) != _HEAD.size or _HEAD.unpack(head) != (_MAGIC, _VERSION, BLOCK, size):
        raise Corrupt("the delta is none for this file, or of another version")
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        record = difference.read(_RECORD.size)
        if len(record) != _RECORD.size:
            raise Corrupt("the delta ends too early")
        source, packed = _RECORD.unpack(record)
        if packed > 2 * BLOCK or not (source == _NOWHERE or source > -length):
            raise Corrupt("the delta does not read")
        below = b"" if source == _NOWHERE else _below(old, source, length)
        yield _unpack(difference.read(packed), below, length)
    if difference.read(1):
        raise Corrupt("the delta goes on after its end")


def _below(old: BinaryIO, source: int, length: int) -> bytes:
    """What lies under a block: bytes of the old file, zeros before its beginning."""
    before = max(0, -source)
    old.seek(max(0, source))
    return bytes(before) + old.read(length - before)


def _found_again(old: BinaryIO, old_size: int, block: bytes, around: int) -> int:
    """Where most pieces of a block say that it starts in the old file, looked for near `around`."""
    low = max(0, around - _REACH)
    old.seek(low)
    near = old.read(max(0, min(old_size - low, len(block) + 2 * _REACH)))
    found: dict[int, int] = {}
    for number in range(_PIECES):
        place = len(block) * number // _PIECES
        piece = block[place : place + _PIECE]
        # a piece of one value is found anywhere, and tells nothing
        if len(piece) == _PIECE and len(set(piece)) > _PIECE // 4:
            at = near.find(piece)
            if at >= 0:
                found[low + at - place] = found.get(low + at - place, 0) + 1
    return max(found, key=lambda each: found[each]) if found else around


def _pack(block: bytes, below: bytes) -> bytes:
    """A zstd frame of the planes of `block` over `below`, which may be shorter."""
    return zstandard.ZstdCompressor(level=_LEVEL).compress(
        np.ascontiguousarray(_over(block, below).reshape(-1, 4).T).tobytes()
    )


def _unpack(frame: bytes, below: bytes, length: int) -> bytes:
    padded = length + -length % 4
    try:
        # asked first: a frame that says more would be given that much memory
        if zstandard.frame_content_size(frame) != padded:
            raise Corrupt("a block of the delta has another size than it should")
        planes = np.frombuffer(zstandard.ZstdDecompressor().decompress(frame), np.uint8)
    except zstandard.ZstdError as error:
        raise Corrupt(f"a block of the delta does not decompress: {error}") from error
    if len(planes) != padded:
        raise Corrupt("a block of the delta has another size than it should")
    block = np.ascontiguousarray(planes.reshape(4, -1).T).reshape(-1)[:length]
    return _over(block.tobytes(), below)[:length].tobytes()


def _over(block: bytes, below: bytes) -> "np.ndarray[tuple[int], np.dtype[np.uint8]]":
    """The exclusive or with `below`, filled up with zeros to whole words."""
    out = np.zeros(len(block) + -len(block) % 4, np.uint8)
    out[: len(block)] = np.frombuffer(block, np.uint8)
    shared = min(len(block), len(below))
    out[:shared] ^= np.frombuffer(below, np.uint8)[:shared]
    return out
