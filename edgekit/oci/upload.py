"""Sending blobs: at once, in pieces that resume, or by reference to another repository."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from edgekit.errors import Corrupt
from edgekit.oci.blobs import Blobs, Follower
from edgekit.oci.connection import ATTEMPTS, RETRIED, Connection
from edgekit.oci.descriptor import Descriptor

# Above this a blob goes up in pieces, so that a broken line costs one piece and not the whole.
UPLOAD_CHUNK = 16 * 1024 * 1024
_SENT_AT_ONCE = 256 * 1024
_BYTES = {"Content-Type": "application/octet-stream"}

# told how many bytes went since it was told last
Advance = Callable[[int], None]


def pulling(name: str) -> str:
    """The scope of a token that reads a repository."""
    return f"repository:{name}:pull"


def pushing(name: str) -> str:
    """The scope of a token that writes to a repository."""
    return f"repository:{name}:pull,push"


@dataclass(frozen=True)
class FilePart:
    """A part of a file as the body of a request: read while it is sent, again where that is tried.

    Args:
        path: the file.
        offset: where the part begins, in bytes.
        length: of the part, in bytes.
    """

    path: Path
    offset: int
    length: int

    @property
    def headers(self) -> dict[str, str]:
        """What a request with this body says of it."""
        return {**_BYTES, "Content-Length": str(self.length)}

    def __iter__(self) -> Iterator[bytes]:
        left = self.length
        with self.path.open("rb") as file:
            file.seek(self.offset)
            while left > 0 and (piece := file.read(min(_SENT_AT_ONCE, left))):
                left -= len(piece)
                yield piece


def put_blob(
    connection: Connection,
    name: str,
    descriptor: Descriptor,
    blobs: Blobs,
    advance: Advance | None = None,
    mount_from: str = "",
) -> int:
    """Send a blob: at once when it is small, else in pieces that resume where a line broke.

    Args:
        connection: to the registry.
        name: the repository.
        descriptor: of the blob.
        blobs: hold it.
        advance: told how many bytes went.
        mount_from: another repository of the same registry that may have the blob.

    Returns:
        The bytes sent: 0 when it could be mounted.
    """
    if mount_from:
        location = mount_blob(connection, name, descriptor, mount_from)
        if not location:
            return 0
    else:
        location = _open_upload(connection, name)
    with blobs.open(descriptor):
        path = blobs.path(descriptor.digest)  # it is whole
    rest: FilePart | None = FilePart(path, 0, descriptor.size)
    if descriptor.size > UPLOAD_CHUNK:
        location = _send_pieces(connection, name, location, path, descriptor.size, advance)
        rest = None
    _close_upload(connection, name, location, descriptor.digest, rest)
    if advance and rest:
        advance(rest.length)
    return descriptor.size


def put_blob_while_written(
    connection: Connection, name: str, blob: Follower, present: Callable[[str], bool]
) -> int:
    """Send a blob while it is written: in one piece, its digest last, as Docker does.

    Args:
        connection: to the registry.
        name: the repository.
        blob: is being written.
        present: whether the repository has the blob of a digest; asked as soon as that is known,
            and where it is, what has not gone by then does not go.

    Returns:
        The bytes sent: 0 when it was there.

    Raises:
        Corrupt: it becomes no blob.
        OciError, httpx.TransportError: the registry or the line fails; nothing is tried again.
    """
    location = _open_upload(connection, name)
    there = False

    def pieces() -> Iterator[bytes]:
        nonlocal there
        asked = False
        for piece in blob:
            if blob.writer.whole and not asked:
                asked = True
                there = present(blob.writer.digest)
            if there:
                return
            yield piece

    response = connection.once("PATCH", location, pushing(name), _BYTES, pieces())
    connection.expect(response, (202, 201, 204), f"a blob to {connection.registry}/{name}")
    location = connection.location(response)
    if there:
        connection.once("DELETE", location, pushing(name), None, None)
        return 0
    _close_upload(connection, name, location, blob.writer.digest)
    return blob.writer.size


def _open_upload(connection: Connection, name: str) -> str:
    """Where a blob can be sent to."""
    response = connection.ask("POST", f"/v2/{name}/blobs/uploads/", pushing(name))
    connection.expect(response, (202,), f"an upload to {connection.registry}/{name}")
    return connection.location(response)


def _close_upload(
    connection: Connection, name: str, location: str, digest: str, rest: FilePart | None = None
) -> None:
    """Say what was sent, with what is still to be."""
    separator = "&" if "?" in location else "?"
    response = connection.ask(
        "PUT",
        f"{location}{separator}digest={digest}",
        pushing(name),
        headers=rest.headers if rest else _BYTES,
        content=rest or b"",
    )
    connection.expect(response, (201,), f"blob {digest} to {connection.registry}/{name}")


def mount_blob(connection: Connection, name: str, descriptor: Descriptor, source: str) -> str:
    """Ask for a blob of another repository of the registry.

    Returns:
        Empty when it is mounted, else where the upload that the registry opened instead goes.
    """
    response = connection.ask(
        "POST",
        f"/v2/{name}/blobs/uploads/?mount={descriptor.digest}&from={source}",
        f"{pushing(name)} {pulling(source)}",
    )
    if response.status_code == 201:
        return ""
    connection.expect(response, (202,), f"an upload to {connection.registry}/{name}")
    return connection.location(response)


def _send_pieces(
    connection: Connection,
    name: str,
    location: str,
    path: Path,
    size: int,
    advance: Advance | None,
) -> str:
    """Send all bytes with PATCH; after a break, ask how far it came and go on from there."""
    offset, failures = 0, 0
    while offset < size:
        piece = FilePart(path, offset, min(UPLOAD_CHUNK, size - offset))
        reached = offset + piece.length
        headers = {**piece.headers, "Content-Range": f"{offset}-{reached - 1}"}
        try:
            response = connection.once("PATCH", location, pushing(name), headers, piece)
            if response.status_code in RETRIED or response.status_code == 416:
                raise httpx.TransportError(f"the registry answers {response.status_code}")
            connection.expect(response, (202, 201, 204), f"a blob to {connection.registry}/{name}")
            location = connection.location(response)
        except httpx.TransportError as error:
            failures += 1
            if failures == ATTEMPTS:
                raise connection.unreachable(error) from error
            connection.wait(failures - 1, None)
            location, reached = _resume(connection, name, location)
            if reached > size:
                raise Corrupt(
                    f"{connection.registry} says it has {reached} of {size} bytes"
                ) from error
        if advance and reached > offset:
            advance(reached - offset)
        offset = reached
    return location


def _resume(connection: Connection, name: str, location: str) -> tuple[str, int]:
    """Where an upload goes on, and how many bytes the registry has."""
    response = connection.ask("GET", location, pushing(name))
    connection.expect(response, (204, 202, 200), f"an upload to {connection.registry}/{name}")
    held = re.fullmatch(r"(?:bytes=)?0-(\d+)", response.headers.get("Range", ""))
    # "0-0" is also what registries say of an upload that has nothing yet
    reached = int(held[1]) + 1 if held and held[1] != "0" else 0
    return connection.location(response) or location, reached
