"""What is inside a compressed blob, whatever compressed it; bounded memory whatever it says."""

import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import BinaryIO, cast

import zstandard

from edgekit.errors import Corrupt
from edgekit.oci.blobs import CHUNK, Blobs
from edgekit.oci.descriptor import Descriptor


def decompressed(file: BinaryIO) -> BinaryIO:
    """A stream of the content of an open file, known by its first bytes: gzip, zstd or as it is."""
    head = file.read(4)
    file.seek(0)
    if head[:2] == b"\x1f\x8b":
        return cast(BinaryIO, _Gunzip(file))
    if head == b"\x28\xb5\x2f\xfd":
        return cast(BinaryIO, zstandard.ZstdDecompressor().stream_reader(file))
    return file


@contextmanager
def opened_content(blobs: Blobs, layer: Descriptor, limit: int) -> Iterator[tuple[BinaryIO, int]]:
    """A blob's content as a file that can be sought in, and its size in bytes.

    Raises:
        Corrupt: it does not decompress, or to more than `limit` bytes.
    """
    with blobs.open(layer) as file:
        stream = decompressed(file)
        if stream is file:
            yield file, layer.size
            return
        with tempfile.TemporaryFile(prefix="edgekit-layer-") as content:
            size = 0
            try:
                while piece := stream.read(CHUNK):
                    size += len(piece)
                    if size > limit:
                        raise Corrupt(f"{layer.digest} has more than {limit} bytes in it")
                    content.write(piece)
            except (zlib.error, zstandard.ZstdError, EOFError) as error:
                raise Corrupt(f"{layer.digest} does not decompress: {error}") from error
            yield cast(BinaryIO, content), size


class _Gunzip:
    """Reads a gzip stream of one or more members; bounded memory whatever the data says."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._rest = b""

    def read(self, size: int) -> bytes:
        out = BytesIO()
        while out.tell() < size:
            source = self._rest or self._file.read(CHUNK)
            if not source:
                break
            out.write(self._inflate.decompress(source, size - out.tell()))
            self._rest = self._inflate.unconsumed_tail
            if self._inflate.eof:
                self._rest = self._inflate.unused_data
                self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        return out.getvalue()
