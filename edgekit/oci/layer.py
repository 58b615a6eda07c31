"""Layers whose bytes depend on their content alone.

A layer is a tar archive (POSIX pax) with its entries sorted by path, time stamps 0, numeric owners
and modes of only a few kinds, compressed with a fixed header. What a host could leak into it - file
times, umask, the order of a directory, user names - never gets there.
"""

import hashlib
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal, cast

from edgekit.errors import Corrupt, OciError
from edgekit.oci.blobs import Blobs, BlobWriter
from edgekit.oci.compression import (
    MEDIA_TYPES,
    ClosableSink,
    Compression,
    Sink,
    compressing,
)
from edgekit.oci.descriptor import Descriptor

Kind = Literal["file", "directory", "symlink"]

_PIECE = 256 * 1024  # what fits a processor's cache, through which it goes several times


@dataclass(frozen=True)
class ZipMember:
    """A file inside a zip archive, read when its turn comes."""

    archive: Path
    name: str


@dataclass(frozen=True)
class PinnedFile:
    """A file that must have this digest when it is read; no layer is made of another."""

    path: Path
    digest: str


Content = bytes | Path | ZipMember | PinnedFile


@dataclass(frozen=True)
class Entry:
    """One file, directory or symbolic link of a layer.

    Args:
        path: relative, with `/`, without `.` or `..`.
        kind: `file`, `directory` or `symlink`.
        content: of a file: its bytes, or where they are.
        target: of a symlink.
        mode: permission bits.
        owner: user and group id.
    """

    path: str
    kind: Kind = "file"
    content: Content = b""
    target: str = ""
    mode: int = 0o644
    owner: int = 0

    def __post_init__(self) -> None:
        parts = self.path.split("/")
        if not self.path or any(part in ("", ".", "..") for part in parts) or "\0" in self.path:
            raise OciError(f"{self.path!r} is no path inside a layer")
        if (self.kind == "symlink") != bool(self.target):
            raise OciError(f"{self.path}: a symlink, and nothing else, has a target")


@dataclass(frozen=True)
class Layer:
    """A finished layer: its blob, and the digest of the archive before compression."""

    descriptor: Descriptor
    diff_id: str


def write_layer(
    entries: Iterable[Entry],
    blobs: Blobs,
    compression: Compression = "gzip",
    level: int | None = None,
    follow: Callable[[BlobWriter], None] | None = None,
) -> Layer:
    """Write `entries` as a layer into `blobs`.

    Directories above an entry that are not given are added, owned by root with mode 755.

    Args:
        entries: in any order.
        blobs: takes the layer.
        compression: `gzip` for any engine, `zstd` for Docker 23 and containerd 1.5 or newer.
        level: of the compression; 6 for gzip and 9 for zstd where None.
        follow: given the layer's writer before anything is written.

    Raises:
        OciError: two different entries have one path, or a file to be read is not there.
    """
    with blobs.writer() as writer:
        if follow:
            follow(writer)
        if compression == "none":
            # the archive is the blob: one digest serves both
            _archive(entries, writer)
            diff_id = writer.digest
        else:
            hashing = _Hashing(compressing(writer, compression, level))
            _archive(entries, hashing)
            hashing.close()
            diff_id = hashing.digest
        descriptor = Descriptor(MEDIA_TYPES[compression], writer.digest, writer.size)
    return Layer(descriptor, diff_id)


def compress(
    content: Iterable[bytes],
    blobs: Blobs,
    layer: Descriptor,
    compression: Compression,
    level: int | None,
) -> None:
    """Write the blob of `layer` again, from the archive that is in it.

    Args:
        content: the archive, in pieces.
        blobs: take the blob.
        layer: what must come out.
        compression: of the layer.
        level: of the compression, as in `write_layer`.

    Raises:
        Corrupt: another blob came out; nothing is kept.
    """
    with blobs.writer(expected=layer.digest) as writer:
        sink = writer if compression == "none" else compressing(writer, compression, level)
        for piece in content:
            sink.write(piece)
            if writer.size > layer.size:
                raise Corrupt(f"what was to be {layer.digest} is longer than {layer.size} bytes")
        if not isinstance(sink, BlobWriter):
            sink.close()


def _archive(entries: Iterable[Entry], sink: Sink) -> None:
    """The archive as `tarfile` writes it, which would copy each file in pieces of 16 KiB."""
    length = sum(_append(sink, entry) for entry in _ordered(entries))
    ending = 2 * tarfile.BLOCKSIZE
    sink.write(bytes(ending + -(length + ending) % tarfile.RECORDSIZE))


def _ordered(entries: Iterable[Entry]) -> list[Entry]:
    by_path: dict[str, Entry] = {}
    for entry in entries:
        if by_path.setdefault(entry.path, entry) != entry:
            raise OciError(f"two different things at {entry.path} of one layer")
    for path in list(by_path):
        for parent in PurePosixPath(path).parents:
            if str(parent) != ".":
                by_path.setdefault(str(parent), Entry(str(parent), "directory", mode=0o755))
    # by the parts, so that a directory stands before what is in it
    return [by_path[path] for path in sorted(by_path, key=lambda path: path.split("/"))]


def _append(sink: Sink, entry: Entry) -> int:
    """Write an entry; the bytes it has taken."""
    info = tarfile.TarInfo(entry.path)
    info.mode, info.uid, info.gid = entry.mode, entry.owner, entry.owner
    if entry.kind == "directory":
        info.type = tarfile.DIRTYPE
    elif entry.kind == "symlink":
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.target, 0o777
    else:
        with _opened(entry) as (file, info.size):
            return _head(sink, info) + _content(sink, entry, file, info.size)
    return _head(sink, info)


def _head(sink: Sink, info: tarfile.TarInfo) -> int:
    return sink.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8"))


def _content(sink: Sink, entry: Entry, file: BinaryIO, size: int) -> int:
    left = size
    while left and (piece := file.read(min(left, _PIECE))):
        left -= len(piece)
        sink.write(piece)
    if left:
        raise OciError(f"{entry.path} became shorter while it was read")
    if file.read(1):
        raise OciError(f"{entry.path} became longer while it was read")
    if isinstance(file, _Pinned):
        file.check()
    return size + sink.write(bytes(-size % tarfile.BLOCKSIZE))


@contextmanager
def _opened(entry: Entry) -> Iterator[tuple[BinaryIO, int]]:
    content = entry.content
    try:
        if isinstance(content, bytes):
            yield BytesIO(content), len(content)
        elif isinstance(content, Path):
            with content.open("rb") as file:
                yield file, os.fstat(file.fileno()).st_size
        elif isinstance(content, PinnedFile):
            with content.path.open("rb") as file:
                pinned = _Pinned(file, content)
                yield cast(BinaryIO, pinned), os.fstat(file.fileno()).st_size
        else:
            with zipfile.ZipFile(content.archive) as archive, archive.open(content.name) as member:
                yield cast(BinaryIO, member), archive.getinfo(content.name).file_size
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise OciError(f"cannot read {entry.path} for a layer: {error}") from error


class _Pinned:
    """Hashes a file while it is read."""

    def __init__(self, file: BinaryIO, wanted: PinnedFile) -> None:
        self._file, self._wanted = file, wanted
        self._hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        return data

    def check(self) -> None:
        found = "sha256:" + self._hash.hexdigest()
        if found != self._wanted.digest:
            raise Corrupt(
                f"{self._wanted.path} is not {self._wanted.digest} but {found}",
                "it changed after it was registered",
            )


class _Hashing:
    """Hashes what goes through it: the layer's diff id."""

    def __init__(self, sink: ClosableSink) -> None:
        self._sink = sink
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self._sink.write(data)
        return len(data)

    def close(self) -> None:
        self._sink.close()

    @property
    def digest(self) -> str:
        return "sha256:" + self._hash.hexdigest()


def file_digest(path: Path) -> str:
    """The sha256 digest of a file, read in pieces."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
