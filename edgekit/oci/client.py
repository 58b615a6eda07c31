"""A client of OCI registries: the distribution specification 1.1 over httpx.

Every answer is taken as a claim: a manifest must have the digest it was asked by, a blob the size
and digest of its descriptor, and nothing is read beyond the size it should have.
"""

import re
from types import TracebackType
from urllib.parse import urljoin, urlsplit

import httpx

from edgekit.errors import Corrupt, Unreachable
from edgekit.oci.blobs import CHUNK, Blobs, Follower
from edgekit.oci.connection import ATTEMPTS, RETRIED, Connection, read_bounded
from edgekit.oci.credentials import Credential
from edgekit.oci.descriptor import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX,
    MANIFEST,
    MANIFEST_LIMIT,
    Descriptor,
    digest_of,
    parse_json,
)
from edgekit.oci.reference import Reference
from edgekit.oci.upload import (
    Advance,
    mount_blob,
    pulling,
    pushing,
    put_blob,
    put_blob_while_written,
)

_ACCEPT = ", ".join((INDEX, MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST))


class RegistryClient:
    """Talks to one registry, as one user.

    Plain HTTP is tried where the registry is on this machine, elsewhere only with `plain_http`.
    Certificates are checked against the system's (`SSL_CERT_FILE` and `SSL_CERT_DIR` are heeded)
    and those under `certs.d/REGISTRY` of the Docker engine's configuration.

    Args:
        reference: any image of the registry.
        credential: taken from the Docker config where not given.
        plain_http: talk HTTP without TLS to a registry on another machine.
        backoff: seconds before the first retry, doubled with each further one.
        transport: replaces httpx's own, for tests without a socket.
    """

    def __init__(
        self,
        reference: Reference,
        *,
        credential: Credential | None = None,
        plain_http: bool = False,
        backoff: float = 0.5,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.registry = reference.registry
        self._connection = Connection(reference, credential, plain_http, backoff, transport)

    def __enter__(self) -> "RegistryClient":
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def ping(self) -> None:
        """Find out whether a registry answers, and by which scheme.

        Raises:
            Unreachable: nothing answers, or what answers is no registry.
            Unauthorized: it does not accept the credential.
        """
        response = self._connection.ask("GET", "/v2/", "")
        if response.status_code != 200:
            raise Unreachable(f"{self.registry} answers {response.status_code}: no OCI registry")

    def get_manifest(self, name: str, target: str) -> tuple[Descriptor, bytes]:
        """The manifest or index at a tag or digest.

        Raises:
            OciError: there is none.
            Corrupt: it has another digest than asked for, or is longer than 4 MiB.
        """
        path = f"/v2/{name}/manifests/{target}"
        with self._connection.stream(
            "GET", path, pulling(name), headers={"Accept": _ACCEPT}
        ) as response:
            self._connection.expect(response, (200,), f"{self.registry}/{name}:{target}")
            data = read_bounded(response, MANIFEST_LIMIT, f"the manifest {target}")
            media_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        descriptor = Descriptor.of(media_type or MANIFEST, data)
        claimed = target if target.startswith("sha256:") else ""
        claimed = claimed or response.headers.get("Docker-Content-Digest", "")
        if claimed.startswith("sha256:") and claimed != descriptor.digest:
            raise Corrupt(f"{self.registry} gave {descriptor.digest} for {name} at {claimed}")
        return descriptor, data

    def manifest_digest(self, name: str, target: str) -> str:
        """The digest that a tag stands for; empty where there is none. One small request."""
        path = f"/v2/{name}/manifests/{target}"
        response = self._connection.ask("HEAD", path, pulling(name), headers={"Accept": _ACCEPT})
        if response.status_code != 200:
            return ""
        return str(response.headers.get("Docker-Content-Digest", ""))

    def put_manifest(self, name: str, target: str, media_type: str, data: bytes) -> str:
        """Store a manifest or index under a tag or its digest; returns its digest."""
        return self.put_artifact_manifest(name, target, media_type, data)[0]

    def put_artifact_manifest(
        self, name: str, target: str, media_type: str, data: bytes
    ) -> tuple[str, bool]:
        """Store a manifest; returns its digest, and whether its subject's referrers list it now."""
        response = self._connection.ask(
            "PUT",
            f"/v2/{name}/manifests/{target}",
            pushing(name),
            headers={"Content-Type": media_type},
            content=data,
        )
        self._connection.expect(
            response, (201, 200, 202), f"the manifest of {self.registry}/{name}:{target}"
        )
        digest = digest_of(data)
        said = response.headers.get("Docker-Content-Digest", digest)
        if said != digest:
            raise Corrupt(f"{self.registry} stored {said} where {digest} was sent")
        return digest, "OCI-Subject" in response.headers

    def referrers(self, name: str, digest: str) -> list[Descriptor] | None:
        """The manifests whose subject is `digest`; None where the registry cannot tell."""
        response = self._connection.ask("GET", f"/v2/{name}/referrers/{digest}", pulling(name))
        if response.status_code == 404:
            return None
        self._connection.expect(
            response, (200,), f"the referrers of {self.registry}/{name}@{digest}"
        )
        index = parse_json(response.content, f"the referrers of {digest}")
        manifests = index.get("manifests")
        return [Descriptor.from_json(each) for each in manifests or []]

    def delete_manifest(self, name: str, digest: str) -> None:
        """Take a manifest away.

        Raises:
            OciError: there is none, or the registry does not delete.
        """
        response = self._connection.ask(
            "DELETE", f"/v2/{name}/manifests/{digest}", f"repository:{name}:delete"
        )
        self._connection.expect(response, (202, 200), f"{self.registry}/{name}@{digest}")

    def tags(self, name: str) -> list[str]:
        """The tags of a repository, in the registry's order."""
        found: list[str] = []
        path = f"/v2/{name}/tags/list"
        for _page in range(1000):
            response = self._connection.ask("GET", path, pulling(name))
            self._connection.expect(response, (200,), f"{self.registry}/{name}")
            value = response.json()
            found += [str(tag) for tag in value.get("tags") or []]
            following = re.search(r'<([^>]+)>\s*;\s*rel="?next', response.headers.get("Link", ""))
            if not following:
                break
            path = (
                urlsplit(urljoin(self._connection.base + path, following[1]))
                ._replace(scheme="", netloc="")
                .geturl()
            )
        return found

    def has_blob(self, name: str, digest: str) -> bool:
        """Whether the repository has the blob."""
        response = self._connection.ask("HEAD", f"/v2/{name}/blobs/{digest}", pulling(name))
        return response.status_code == 200

    def get_blob(
        self, name: str, descriptor: Descriptor, blobs: Blobs, advance: Advance | None = None
    ) -> None:
        """Fetch a blob into `blobs`, unless it is there.

        Raises:
            Corrupt: its bytes are more, fewer or others than the descriptor says; nothing is kept.
        """
        if blobs.has(descriptor):
            return
        for attempt in range(ATTEMPTS):
            try:
                self._get_blob_once(name, descriptor, blobs, advance)
                return
            except httpx.TransportError as error:
                if attempt == ATTEMPTS - 1:
                    raise self._connection.unreachable(error) from error
                self._connection.wait(attempt, None)

    def _get_blob_once(
        self, name: str, descriptor: Descriptor, blobs: Blobs, advance: Advance | None
    ) -> None:
        path = f"/v2/{name}/blobs/{descriptor.digest}"
        with self._connection.stream("GET", path, pulling(name)) as response:
            if response.status_code in RETRIED:
                raise httpx.TransportError(f"the registry answers {response.status_code}")
            self._connection.expect(
                response, (200,), f"blob {descriptor.digest} of {self.registry}/{name}"
            )
            with blobs.writer(expected=descriptor.digest) as writer:
                for piece in response.iter_raw(CHUNK):
                    writer.write(piece)
                    if writer.size > descriptor.size:
                        raise Corrupt(
                            f"{self.registry} sends more than the {descriptor.size} bytes"
                            f" of {descriptor.digest}"
                        )
                    if advance:
                        advance(len(piece))

    def mount_blob(self, name: str, descriptor: Descriptor, source: str) -> str:
        """Ask for a blob of another repository; see `edgekit.oci.upload.mount_blob`."""
        return mount_blob(self._connection, name, descriptor, source)

    def put_blob(
        self,
        name: str,
        descriptor: Descriptor,
        blobs: Blobs,
        advance: Advance | None = None,
        mount_from: str = "",
    ) -> int:
        """Send a blob and return the bytes sent; see `edgekit.oci.upload.put_blob`."""
        return put_blob(self._connection, name, descriptor, blobs, advance, mount_from)

    def put_blob_while_written(self, name: str, blob: Follower) -> int:
        """Send a blob that is being written, unless the repository has it; see `oci.upload`."""
        return put_blob_while_written(
            self._connection, name, blob, lambda digest: self.has_blob(name, digest)
        )
