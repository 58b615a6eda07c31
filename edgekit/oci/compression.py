"""How layers are compressed: always to the same bytes, by one compressor's release.

Its other direction is `edgekit.oci.compressed`.
"""

import os
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Literal, Protocol

import zstandard

from edgekit.oci.descriptor import LAYER, LAYER_GZIP, LAYER_ZSTD, Descriptor

Compression = Literal["gzip", "zstd", "none"]

MEDIA_TYPES: dict[Compression, str] = {"gzip": LAYER_GZIP, "zstd": LAYER_ZSTD, "none": LAYER}
_LEVELS: dict[Compression, int] = {"gzip": 6, "zstd": 9, "none": 0}
# RFC 1952: magic, deflate, no flags, no time, no extra flags, unknown operating system
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_GZIP_BLOCK = 1024 * 1024
# how many compressed blocks are held back, which bounds the memory
_GZIP_WAITING = 32
# RFC 1951: how far back deflate may refer
_WINDOW = 32 * 1024


class Sink(Protocol):
    """What takes bytes."""

    def write(self, data: bytes, /) -> int:
        """Append `data`."""
        ...


class ClosableSink(Sink, Protocol):
    """What may hold bytes back until it is closed."""

    def close(self) -> None:
        """Give out what is held back."""
        ...


def compressor_identity(compression: Compression) -> str:
    """Names the compressor: another one may give other bytes for the same archive."""
    if compression == "gzip":
        return f"zlib {zlib.ZLIB_RUNTIME_VERSION}, blocks of {_GZIP_BLOCK}"
    if compression == "zstd":
        return "zstd " + ".".join(str(part) for part in zstandard.ZSTD_VERSION)
    return "none"


def compression_of(layer: Descriptor) -> Compression:
    """How a layer is compressed, by its media type."""
    if layer.media_type.endswith("gzip"):
        return "gzip"
    return "zstd" if layer.media_type.endswith("zstd") else "none"


def compressing(sink: Sink, compression: Compression, level: int | None) -> ClosableSink:
    """What compresses what goes through it to `sink`: gzip or zstd, at a level or its usual one."""
    chosen = _LEVELS[compression] if level is None else level
    if compression == "gzip":
        return _Gzip(sink, chosen)
    return _Zstd(sink, chosen)


class _Gzip:
    """Compresses blocks of a fixed length side by side, as pigz does.

    Each block has the end of the one before as its dictionary and ends on a byte, so the blocks
    in a row are one deflate stream. The bytes do not depend on how many threads there are.
    """

    def __init__(self, sink: Sink, level: int) -> None:
        self._sink = sink
        self._level = level
        self._crc = 0
        self._length = 0
        self._rest = bytearray()
        self._dictionary = b""
        self._waiting: deque[Future[bytes]] = deque()
        sink.write(_GZIP_HEADER)

    def write(self, data: bytes) -> int:
        self._crc = zlib.crc32(data, self._crc)
        self._length += len(data)
        self._rest += data
        while len(self._rest) > _GZIP_BLOCK:
            self._submit(bytes(self._rest[:_GZIP_BLOCK]), last=False)
            del self._rest[:_GZIP_BLOCK]
        return len(data)

    def close(self) -> None:
        self._submit(bytes(self._rest), last=True)
        while self._waiting:
            self._sink.write(self._waiting.popleft().result())
        self._sink.write(self._crc.to_bytes(4, "little"))
        self._sink.write((self._length & 0xFFFFFFFF).to_bytes(4, "little"))

    def _submit(self, block: bytes, last: bool) -> None:
        job = _compressors().submit(_deflate, block, self._dictionary, self._level, last)
        self._waiting.append(job)
        self._dictionary = block[-_WINDOW:]
        while len(self._waiting) > _GZIP_WAITING:
            self._sink.write(self._waiting.popleft().result())


def _deflate(block: bytes, dictionary: bytes, level: int, last: bool) -> bytes:
    deflate = zlib.compressobj(
        level,
        zlib.DEFLATED,
        -zlib.MAX_WBITS,
        zlib.DEF_MEM_LEVEL,
        zlib.Z_DEFAULT_STRATEGY,
        dictionary,
    )
    return deflate.compress(block) + deflate.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


@cache
def _compressors() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="gzip")


class _Zstd:
    def __init__(self, sink: Sink, level: int) -> None:
        self._sink = sink
        # one thread: with more, the bytes would depend on how the work was cut
        self._compressor = zstandard.ZstdCompressor(level=level).compressobj()

    def write(self, data: bytes) -> int:
        self._sink.write(self._compressor.compress(data))
        return len(data)

    def close(self) -> None:
        self._sink.write(self._compressor.flush())
