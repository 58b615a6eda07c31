"""Blobs in a folder, each under its digest: the `blobs/sha256` of an OCI layout."""

import hashlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from edgekit.errors import Corrupt, OciError
from edgekit.oci.descriptor import MANIFEST_LIMIT, Descriptor, is_digest

CHUNK = 1024 * 1024
_FOLLOWED_AT_ONCE = 256 * 1024


class BlobWriter:
    """Takes the bytes of one blob, counts and hashes them; see `Blobs.writer`.

    Attributes:
        size: how many bytes it has so far.
        whole: None while it is written, then whether it has become a blob.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._followed = False
        self._changed = threading.Condition()
        self.size = 0
        self.whole: bool | None = None

    def write(self, data: bytes) -> int:
        """Append `data`; returns its length, as a file does."""
        self._hash.update(data)
        self._file.write(data)
        if self._followed:
            self._file.flush()
        with self._changed:
            self.size += len(data)
            self._changed.notify_all()
        return len(data)

    def follow(self) -> "Follower":
        """Have a second reader of what is written, while it is."""
        self._followed = True
        return Follower(self, os.dup(self._file.fileno()))

    def wait(self, size: int) -> int:
        """Wait until it has more than `size` bytes, or is at its end; the bytes it has.

        Raises:
            Corrupt: it becomes no blob.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.size > size or self.whole is not None)
        if self.whole is False:
            raise Corrupt("a blob that was being sent is not finished")
        return self.size

    def end(self, whole: bool) -> None:
        """Tell whether it has become a blob."""
        with self._changed:
            self.whole = whole
            self._changed.notify_all()

    @property
    def digest(self) -> str:
        """The digest of what has been written so far."""
        return "sha256:" + self._hash.hexdigest()


class Follower:
    """What a writer gets, from the beginning on, each time it is iterated; to be closed.

    Iterating raises Corrupt where the writer ends without a blob.
    """

    def __init__(self, writer: BlobWriter, file: int) -> None:
        self.writer, self._file = writer, file

    def __iter__(self) -> Iterator[bytes]:
        offset = 0
        while offset < self.writer.wait(offset):
            left = self.writer.size - offset
            piece = os.pread(self._file, min(left, _FOLLOWED_AT_ONCE), offset)
            offset += len(piece)
            yield piece

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


class Blobs:
    """A folder of immutable blobs named by their digest.

    A blob is written under a temporary name, flushed to the disk and then renamed, so that one
    under its digest is whole, whoever was interrupted. Several processes may write at once.

    Args:
        folder: holds `sha256/`; made with the first blob.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be.

        Raises:
            Corrupt: `digest` is no sha256 digest (and so no file name of ours).
        """
        if not is_digest(digest):
            raise Corrupt(f"{digest[:80]!r} is no sha256 digest")
        return self.folder / "sha256" / digest.removeprefix("sha256:")

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is here and as long as it should be."""
        try:
            return self.path(descriptor.digest).stat().st_size == descriptor.size
        except FileNotFoundError:
            return False

    def read(self, descriptor: Descriptor, limit: int = MANIFEST_LIMIT) -> bytes:
        """The bytes of a small blob, checked against its descriptor.

        Raises:
            Corrupt: it is missing, longer than `limit`, or not what its digest says.
        """
        if descriptor.size > limit:
            raise Corrupt(f"{descriptor.digest} has {descriptor.size} bytes, more than {limit}")
        with self.open(descriptor) as file:
            data = file.read(descriptor.size + 1)
        if "sha256:" + hashlib.sha256(data).hexdigest() != descriptor.digest:
            raise Corrupt(
                f"{self.path(descriptor.digest)} is not what its digest says", "delete it"
            )
        return data

    def open(self, descriptor: Descriptor) -> BinaryIO:
        """The blob as a file to read from; only its length has been checked.

        Raises:
            Corrupt: it is missing or its length is wrong.
        """
        path = self.path(descriptor.digest)
        if not self.has(descriptor):
            state = "has the wrong length" if path.exists() else "is missing"
            raise Corrupt(f"blob {path} {state}", "build or pull the image again")
        return path.open("rb")

    def put(self, data: bytes, media_type: str) -> Descriptor:
        """Keep `data` and return its descriptor."""
        descriptor = Descriptor.of(media_type, data)
        if not self.has(descriptor):
            with self.writer(expected=descriptor.digest) as writer:
                writer.write(data)
        return descriptor

    def copy_from(self, other: "Blobs", descriptor: Descriptor) -> None:
        """Take over a blob of another folder, checking its digest on the way."""
        if self.has(descriptor):
            return
        with other.open(descriptor) as source, self.writer(expected=descriptor.digest) as writer:
            shutil.copyfileobj(source, writer, CHUNK)

    @contextmanager
    def writer(self, expected: str = "") -> Iterator[BlobWriter]:
        """Write one blob; it gets its name when the block ends without an error.

        Args:
            expected: the digest that it must have; any where empty.

        Raises:
            Corrupt: the bytes have another digest than `expected`; nothing is kept.
            OciError: the disk refused the bytes.
        """
        folder = self.folder / "sha256"
        temporary = writer = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=".partial-", dir=folder)
            with os.fdopen(descriptor, "wb") as file:
                writer = BlobWriter(file)
                yield writer
                file.flush()
                os.fsync(file.fileno())
            if expected and writer.digest != expected:
                raise Corrupt(f"expected {expected}, the bytes have {writer.digest}")
            Path(temporary).chmod(0o644)
            Path(temporary).replace(self.path(writer.digest))
            writer.end(whole=True)
        except OSError as error:
            raise OciError(f"cannot write to {folder}: {error.strerror or error}") from error
        finally:
            if writer and not writer.whole:
                writer.end(whole=False)
            if temporary:
                with suppress(FileNotFoundError):
                    Path(temporary).unlink()
