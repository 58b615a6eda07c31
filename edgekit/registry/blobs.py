"""Files by the sha256 of their content, in a folder or an object store, over fsspec.

A blob is written under a temporary name, flushed to disk and renamed, so that under its own name it
is always whole; and it is hashed again whenever it is read. In an object store a file appears only
when its upload is complete, which is the same.
"""

import hashlib
import logging
import math
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

from edgekit.errors import RegistryError
from edgekit.registry.database import explained, first_line
from edgekit.registry.records import check_digest
from edgekit.wholefile import whole_file

_log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_ALGORITHM = "sha256"
_INCOMING = "incoming"
_FILE_URL = "file://"
# drivers hold a hundred pieces at once by themselves: for a large file all of it
_PIECES: dict[str, dict[str, int]] = {
    "s3": {"chunksize": 16 << 20, "max_concurrency": 4},
    "abfs": {"max_concurrency": 4},
}
_STORE = (
    "see to the store and to the credentials in the environment: AZURE_STORAGE_CONNECTION_STRING, "
    "or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)


@dataclass(frozen=True)
class Incoming:
    """A file that is being taken in: complete on disk, not yet in the store.

    Args:
        path: of the private copy.
        digest: `sha256:...` of it.
        size: in bytes.
    """

    path: Path
    digest: str
    size: int


class Intake:
    """A private folder with copies of files, hashed while they were copied.

    Args:
        folder: nobody else's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, source: Path, name: str = "file") -> Incoming:
        """Copy `source`, to be called `name` in the folder.

        Raises:
            RegistryError: the source cannot be read or the copy not written.
        """
        with explained(f"copying {source}"), source.open("rb") as reading:
            return self.add_stream(reading, str(source), name)

    def add_stream(self, source: IO[bytes], shown: str, name: str = "file") -> Incoming:
        """As `add`, from a file that is open; `shown` is what messages call it."""
        copy = self.folder / name
        with explained(f"copying {shown}"):
            copy.parent.mkdir(parents=True, exist_ok=True)
            with copy.open("xb") as writing:
                digest, size = _copy(source, writing)
                writing.flush()
                os.fsync(writing.fileno())
        return Incoming(copy, digest, size)


class BlobStore:
    """Blobs under one fsspec URL.

    Args:
        url: of the folder that holds them, as `file:///srv/blobs` or `s3://bucket/prefix`.
        cache: a local folder for what can be made again, copies of remote blobs among it.

    Raises:
        RegistryError: there is no driver for the URL, or it refuses.
    """

    def __init__(self, url: str, cache: Path) -> None:
        self._url = _safe(url)
        self.cache = cache
        self._copies = cache / "blobs"
        self._local = url.startswith(_FILE_URL)
        if self._local:
            # without fsspec, which takes longer to import than most commands need a folder for
            self._root = unquote(url.removeprefix(_FILE_URL))
        else:
            self._fs, self._root = _opened(url)
        self._incoming = Path(self._root if self._local else self._copies) / _INCOMING

    @cached_property
    def _fs(self) -> Any:
        """The file system that holds the blobs; a folder's is opened when it is first asked."""
        return _opened("file://")[0]

    @property
    def _pieces(self) -> dict[str, int]:
        """How the driver is to send and fetch a file."""
        protocols = self._fs.protocol
        names = (protocols,) if isinstance(protocols, str) else protocols
        return next((_PIECES[name] for name in names if name in _PIECES), {})

    @contextmanager
    def intake(self) -> Iterator[Intake]:
        """A place for files that are being taken in; gone when the block ends.

        What is checked, and then stored by `put`, are the copies in it: the sources may change
        meanwhile.

        Raises:
            RegistryError: it cannot be made.
        """
        folder = self._incoming / secrets.token_hex(16)
        with explained(f"making {folder}"):
            folder.mkdir(parents=True)
        try:
            yield Intake(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # what stays is swept later

    def put(self, incoming: Incoming) -> None:
        """Store the file under its digest; replaces what is there, which may be damaged.

        Raises:
            RegistryError: the store refuses, or is full.
        """
        target = self._place(incoming.digest)
        with self._asking(f"storing a blob in {self._url}"):
            if self._local:
                path = Path(target)
                path.parent.mkdir(parents=True, exist_ok=True)
                incoming.path.chmod(0o444)
                incoming.path.replace(path)
                _sync_folder(path.parent)
            else:
                self._fs.put_file(str(incoming.path), target, **self._pieces)
        _log.info("stored %s, %d bytes", incoming.digest, incoming.size)

    def exists(self, digest: str) -> bool:
        """Whether there is a file under the digest, whatever is in it."""
        with self._asking(f"reading {self._url}"):
            self._fs.invalidate_cache()
            return bool(self._fs.exists(self._place(digest)))

    def path(self, digest: str, *, verify: bool = True) -> Path:
        """A local file with the blob's content, hashed on this very call; not to be written to.

        Args:
            digest: of the blob.
            verify: may be False for a caller that hashes all it reads of the file. The copy of
                a remote blob is hashed in any case: a damaged one is fetched again.

        Raises:
            RegistryError: it is missing, or is not what its digest says.
        """
        if self._local:
            local = Path(self._place(digest))
        else:
            local = self._copies / _ALGORITHM / _hex(digest)
            if not local.exists() or digest_of_file(local) != digest:
                self._fetch(digest, local)
                return local
        with self._asking(f"reading {self._url}"):
            try:
                found = digest_of_file(local) if verify else digest
                local.stat()
            except FileNotFoundError as error:
                raise self._missing(digest) from error
        if found != digest:
            raise RegistryError(
                f"the stored file {local} is damaged: its digest is {found}",
                hint="register the original file again, which replaces it",
            )
        return local

    def delete(self, digest: str) -> None:
        """Remove the blob; nothing happens where there is none."""
        with self._asking(f"deleting from {self._url}"), suppress(FileNotFoundError):
            self._fs.rm_file(self._place(digest))

    def digests(self) -> dict[str, int]:
        """Every blob there is, and its size in bytes."""
        folder = f"{self._root}/{_ALGORITHM}"
        with self._asking(f"reading {self._url}"):
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(folder, detail=True)
            except FileNotFoundError:
                return {}
        return {
            f"{_ALGORITHM}:{name.rsplit('/', 1)[-1]}": int(info["size"])
            for name, info in found.items()
        }

    def age(self, digest: str) -> float:
        """Seconds since the blob was stored; endless where the store does not know."""
        with self._asking(f"reading {self._url}"):
            try:
                modified = self._fs.modified(self._place(digest))
            except (NotImplementedError, KeyError):
                return math.inf
        return time.time() - float(modified.timestamp())

    def sweep(self, older_than: float) -> list[Path]:
        """Remove unfinished copies that a killed process left `older_than` seconds ago."""
        unfinished = [*self._incoming.glob("*"), *(self._copies / _ALGORITHM).glob("*.*")]
        swept = []
        with explained(f"cleaning {self._incoming}"):
            for path in unfinished:
                with suppress(FileNotFoundError):  # its owner was faster
                    latest = max(each.stat().st_mtime for each in (path, *path.rglob("*")))
                    if latest <= time.time() - older_than:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
                        swept.append(path)
        return swept

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """As `explained`, and for all that an object store's driver may raise besides."""
        with explained(what):
            try:
                yield
            except (RegistryError, OSError, ImportError):
                raise
            except Exception as error:  # drivers have no base class in common
                if self._local:
                    raise
                raise RegistryError(f"{what} failed: {first_line(error)}", hint=_STORE) from error

    def _place(self, digest: str) -> str:
        name = _hex(digest)
        return f"{self._root}/{_ALGORITHM}/{name[:2]}/{name}"

    def _fetch(self, digest: str, local: Path) -> None:
        local.parent.mkdir(parents=True, exist_ok=True)
        temporary = local.with_name(f"{local.name}.{secrets.token_hex(8)}")
        try:
            with self._asking(f"reading {self._url}"):
                try:
                    self._fs.get_file(self._place(digest), str(temporary), **self._pieces)
                except FileNotFoundError as error:
                    raise self._missing(digest) from error
            found = digest_of_file(temporary)
            if found != digest:
                raise RegistryError(
                    f"the stored file {self._url}/{self._place(digest)} is damaged: its digest is "
                    f"{found}",
                    hint="register the original file again, which replaces it",
                )
            temporary.replace(local)
        finally:
            temporary.unlink(missing_ok=True)

    def _missing(self, digest: str) -> RegistryError:
        return RegistryError(
            f"the file {digest} is not in {self._url}",
            hint="register the original file again, which replaces it",
        )


def _opened(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it."""
    import fsspec

    with explained(f"the blob store {_safe(url)}"):
        try:
            filesystem, root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise RegistryError(
                f"the blob store {_safe(url)} cannot be opened: {first_line(error)}",
                hint="set blobs in workspace.toml to a folder or a URL that fsspec knows, and its "
                "credentials in the environment",
            ) from error
    return filesystem, str(root)


def copy_verified(source: Path, target: Path, digest: str) -> None:
    """Copy a blob to `target` by a temporary name; the copy is what the digest says.

    Raises:
        RegistryError: it is not, or `target` cannot be written.
    """
    with (
        explained(f"writing {target}"),
        source.open("rb") as reading,
        whole_file(target) as writing,
    ):
        found, _size = _copy(reading, writing)
        if found != digest:
            raise RegistryError(f"the stored file {source} changed while it was copied")


def _copy(reading: IO[bytes], writing: IO[bytes]) -> tuple[str, int]:
    """Copy what is left of a file; the digest and size of that."""
    hashing = hashlib.new(_ALGORITHM)
    size = 0
    while chunk := reading.read(_CHUNK):
        hashing.update(chunk)
        writing.write(chunk)
        size += len(chunk)
    return f"{_ALGORITHM}:{hashing.hexdigest()}", size


def digest_of_file(path: Path) -> str:
    """The digest of what is in the file."""
    with path.open("rb") as file:
        return f"{_ALGORITHM}:{hashlib.file_digest(file, _ALGORITHM).hexdigest()}"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hex(digest: str) -> str:
    check_digest(digest)
    return digest.partition(":")[2]


def _safe(url: str) -> str:
    """The URL without the credentials it may hold between `//` and `@`."""
    scheme, slashes, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}"
