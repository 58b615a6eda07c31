"""Where the packager keeps what it may need again, and how it fetches what it does not have."""

import hashlib
import json
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from edgekit.errors import Corrupt, ImageError, Unreachable
from edgekit.oci.blobs import Blobs
from edgekit.wholefile import whole_file

# told what is going on, how many bytes that step had, and of how many in all (0: not known)
Progress = Callable[[str, int, int], None]

_PARALLEL = 6
# what a server says that is overloaded or behind another that is
_RETRIED = frozenset({429, 502, 503, 504})
_LONGEST_WAIT = 30.0
# whoever writes a file is done with it after so many seconds, or was killed
_UNFINISHED = 24 * 3600.0


@dataclass(frozen=True)
class Store:
    """The packager's folders.

    Args:
        cache: downloads and finished layers; whoever deletes it loses time only.
        locks: what was resolved, to be used again until the user asks for newer packages.
    """

    cache: Path
    locks: Path

    @property
    def blobs(self) -> Blobs:
        """Finished layers, configurations and manifests."""
        return Blobs(self.cache / "oci" / "blobs")

    @property
    def downloads(self) -> Path:
        """Fetched files, named by their sha256 and their own name."""
        return self.cache / "downloads"

    def read_record(self, kind: str, key: str) -> dict[str, Any] | None:
        """What is remembered under `key`, None where there is nothing or it does not read."""
        try:
            value = json.loads((self.cache / kind / f"{key}.json").read_bytes())
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def write_record(self, kind: str, key: str, value: dict[str, Any]) -> None:
        """Remember `value` under `key` in the cache."""
        write_file(self.cache / kind / f"{key}.json", json.dumps(value, sort_keys=True).encode())

    def read_lock(self, name: str) -> dict[str, Any] | None:
        """The lock called `name`, None where nothing was resolved yet.

        Raises:
            ImageError: the file is there and does not read: guessing would change the image.
        """
        path = self.locks / f"{name}.json"
        try:
            value = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ImageError(f"the lock {path} does not read: {error}", "delete it") from error
        if not isinstance(value, dict):
            raise ImageError(f"the lock {path} is no JSON object", "delete it")
        return value

    def write_lock(self, name: str, value: dict[str, Any]) -> None:
        """Keep a lock, in one readable form, so that it can be put under version control."""
        data = json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"
        write_file(self.locks / f"{name}.json", data)


def write_file(path: Path, data: bytes) -> None:
    """Write a whole file or nothing, and the folders it is in.

    Raises:
        ImageError: the disk refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(data)
    except OSError as error:
        raise ImageError(f"cannot write {path}: {error.strerror or error}") from error


def sweep_unfinished(store: Store, older_than: float = _UNFINISHED) -> None:
    """Remove from the cache what killed processes left half written `older_than` seconds ago."""
    before = time.time() - older_than
    for path in store.cache.rglob(".partial-*"):
        with suppress(FileNotFoundError):  # its owner was faster
            if path.stat().st_mtime <= before:
                path.unlink()


@dataclass(frozen=True)
class Download:
    """A file to be fetched: where it is, what it must be.

    Args:
        url: its address.
        sha256: 64 hexadecimal digits.
        size: in bytes; what comes may not be longer.
        name: its own name, for messages and its place in the cache.
    """

    url: str
    sha256: str
    size: int
    name: str

    def path(self, store: Store) -> Path:
        """Where the file is in the cache, or would be."""
        return store.downloads / f"{self.sha256}-{self.name}"


def fetch(
    downloads: Sequence[Download], store: Store, progress: Progress | None = None
) -> list[Path]:
    """Fetch what the cache lacks, several files at once, and return all paths in order.

    Raises:
        Unreachable: a server does not answer, or not with the file.
        Corrupt: a file is not what its sha256 says.
    """
    missing = [each for each in downloads if not each.path(store).exists()]
    if missing:
        total = sum(each.size for each in missing)
        with http_client() as client, ThreadPoolExecutor(_PARALLEL) as pool:
            for each, data in zip(
                missing, pool.map(lambda each: _fetch_one(client, each), missing), strict=True
            ):
                write_file(each.path(store), data)
                if progress:
                    progress(f"fetch {each.name}", len(data), total)
    return [each.path(store) for each in downloads]


def http_client() -> httpx.Client:
    """The client for mirrors and indexes: follows redirects, gives up after a minute of silence."""
    # the authorities this machine trusts, as pip and apt do, not those httpx brings
    return httpx.Client(
        follow_redirects=True,
        timeout=httpx.Timeout(60, connect=15),
        verify=ssl.create_default_context(),
    )


def _fetch_one(client: httpx.Client, wanted: Download) -> bytes:
    data = get(client, wanted.url, wanted.size)
    if hashlib.sha256(data).hexdigest() != wanted.sha256:
        raise Corrupt(f"{wanted.name} as fetched is not what its sha256 says", "try again later")
    return data


def get(
    client: httpx.Client, url: str, limit: int, attempts: int = 4, backoff: float = 0.5
) -> bytes:
    """Fetch a file into memory, at most `limit` bytes.

    Args:
        client: fetches it.
        url: its address.
        limit: in bytes.
        attempts: how often it is tried where the line or the server fails for the moment.
        backoff: seconds before the second attempt, doubled with each further one.

    Raises:
        Unreachable: nothing answers, or something else than 200.
        Corrupt: it is longer than `limit`.
    """
    shown = url.rpartition("/")[2] or url
    for attempt in range(attempts):
        last = attempt == attempts - 1
        wait = backoff * 2**attempt
        try:
            with client.stream("GET", url) as response:
                if response.status_code in _RETRIED and not last:
                    asked = response.headers.get("Retry-After", "")
                    wait = max(wait, float(asked)) if asked.isdigit() else wait
                else:
                    return _body(response, shown, limit)
        except httpx.TransportError as error:
            if last:
                raise Unreachable(
                    f"cannot fetch {shown} from {httpx.URL(url).host}: {error}",
                    "check the network, or build from a filled cache",
                ) from error
        time.sleep(min(wait, _LONGEST_WAIT))
    raise AssertionError("the loop returns or raises")


def _body(response: httpx.Response, shown: str, limit: int) -> bytes:
    if response.status_code != 200:
        raise Unreachable(f"{shown}: the server answers {response.status_code}")
    data = bytearray()
    for piece in response.iter_bytes(256 * 1024):
        data += piece
        if len(data) > limit:
            raise Corrupt(f"{shown} is longer than the {limit} bytes it should have")
    return bytes(data)
