"""A client of OCI registries: the distribution specification 1.1 over httpx.

Every answer is taken as a claim: a manifest must have the digest it was asked by, a blob the size
and digest of its descriptor, and nothing is read beyond the size it should have.
"""

import logging
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

import httpx

from edgekit.errors import Corrupt, OciError, Unauthorized, Unreachable
from edgekit.oci.blobs import CHUNK, Blobs
from edgekit.oci.credentials import Credential, find_credential
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

log = logging.getLogger(__name__)

# Above this a blob goes up in pieces, so that a broken line costs one piece and not the whole.
UPLOAD_CHUNK = 16 * 1024 * 1024
_ATTEMPTS = 5
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_ACCEPT = ", ".join((INDEX, MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST))

Advance = Callable[[int], None]


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
        self._loopback = reference.loopback
        self._plain_http = plain_http
        self._credential = credential
        self._credential_sought = credential is not None
        self._backoff = backoff
        self._tokens: dict[str, str] = {}
        self._base = ""
        # trusts nobody yet: reading all authorities takes longer than a small push over plain HTTP
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._trusting = False
        self._http = httpx.Client(
            timeout=httpx.Timeout(60, connect=10),
            verify=self._tls,
            transport=transport,
            trust_env=not self._loopback,
            limits=httpx.Limits(max_connections=8),
        )

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
        self._http.close()

    # -- what a registry can do -------------------------------------------------------------

    def ping(self) -> None:
        """Find out whether a registry answers, and by which scheme.

        Raises:
            Unreachable: nothing answers, or what answers is no registry.
            Unauthorized: it does not accept the credential.
        """
        response = self._ask("GET", "/v2/", "")
        if response.status_code != 200:
            raise Unreachable(f"{self.registry} answers {response.status_code}: no OCI registry")

    def get_manifest(self, name: str, target: str) -> tuple[Descriptor, bytes]:
        """The manifest or index at a tag or digest.

        Raises:
            OciError: there is none.
            Corrupt: it has another digest than asked for, or is longer than 4 MiB.
        """
        path = f"/v2/{name}/manifests/{target}"
        with self._stream("GET", path, _pull(name), headers={"Accept": _ACCEPT}) as response:
            self._expect(response, (200,), f"{self.registry}/{name}:{target}")
            data = _read_bounded(response, MANIFEST_LIMIT, f"the manifest {target}")
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
        response = self._ask("HEAD", path, _pull(name), headers={"Accept": _ACCEPT})
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
        response = self._ask(
            "PUT",
            f"/v2/{name}/manifests/{target}",
            _push(name),
            headers={"Content-Type": media_type},
            content=data,
        )
        self._expect(response, (201, 200, 202), f"the manifest of {self.registry}/{name}:{target}")
        digest = digest_of(data)
        said = response.headers.get("Docker-Content-Digest", digest)
        if said != digest:
            raise Corrupt(f"{self.registry} stored {said} where {digest} was sent")
        return digest, "OCI-Subject" in response.headers

    def referrers(self, name: str, digest: str) -> list[Descriptor] | None:
        """The manifests whose subject is `digest`; None where the registry cannot tell."""
        response = self._ask("GET", f"/v2/{name}/referrers/{digest}", _pull(name))
        if response.status_code == 404:
            return None
        self._expect(response, (200,), f"the referrers of {self.registry}/{name}@{digest}")
        index = parse_json(response.content, f"the referrers of {digest}")
        manifests = index.get("manifests")
        return [Descriptor.from_json(each) for each in manifests or []]

    def delete_manifest(self, name: str, digest: str) -> None:
        """Take a manifest away.

        Raises:
            OciError: there is none, or the registry does not delete.
        """
        response = self._ask(
            "DELETE", f"/v2/{name}/manifests/{digest}", f"repository:{name}:delete"
        )
        self._expect(response, (202, 200), f"{self.registry}/{name}@{digest}")

    def tags(self, name: str) -> list[str]:
        """The tags of a repository, in the registry's order."""
        found: list[str] = []
        path = f"/v2/{name}/tags/list"
        for _page in range(1000):
            response = self._ask("GET", path, _pull(name))
            self._expect(response, (200,), f"{self.registry}/{name}")
            value = response.json()
            found += [str(tag) for tag in value.get("tags") or []]
            following = re.search(r'<([^>]+)>\s*;\s*rel="?next', response.headers.get("Link", ""))
            if not following:
                break
            path = (
                urlsplit(urljoin(self._base + path, following[1]))
                ._replace(scheme="", netloc="")
                .geturl()
            )
        return found

    def has_blob(self, name: str, descriptor: Descriptor) -> bool:
        """Whether the repository has the blob."""
        response = self._ask("HEAD", f"/v2/{name}/blobs/{descriptor.digest}", _pull(name))
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
        for attempt in range(_ATTEMPTS):
            try:
                self._get_blob_once(name, descriptor, blobs, advance)
                return
            except httpx.TransportError as error:
                if attempt == _ATTEMPTS - 1:
                    raise self._unreachable(error) from error
                self._wait(attempt, None)

    def _get_blob_once(
        self, name: str, descriptor: Descriptor, blobs: Blobs, advance: Advance | None
    ) -> None:
        path = f"/v2/{name}/blobs/{descriptor.digest}"
        with self._stream("GET", path, _pull(name)) as response:
            self._expect(response, (200,), f"blob {descriptor.digest} of {self.registry}/{name}")
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
        """Ask for a blob of another repository of the registry.

        Returns:
            Empty when it is mounted, else where the upload that the registry opened instead goes.
        """
        response = self._ask(
            "POST",
            f"/v2/{name}/blobs/uploads/?mount={descriptor.digest}&from={source}",
            f"{_push(name)} {_pull(source)}",
        )
        if response.status_code == 201:
            return ""
        self._expect(response, (202,), f"an upload to {self.registry}/{name}")
        return self._location(response)

    def put_blob(
        self,
        name: str,
        descriptor: Descriptor,
        blobs: Blobs,
        advance: Advance | None = None,
        mount_from: str = "",
    ) -> int:
        """Send a blob: at once when it is small, else in pieces that resume where a line broke.

        Args:
            name: the repository.
            descriptor: of the blob.
            blobs: hold it.
            advance: told how many bytes went.
            mount_from: another repository of the same registry that may have the blob.

        Returns:
            The bytes sent: 0 when it could be mounted.
        """
        if mount_from:
            location = self.mount_blob(name, descriptor, mount_from)
            if not location:
                return 0
        else:
            response = self._ask("POST", f"/v2/{name}/blobs/uploads/", _push(name))
            self._expect(response, (202,), f"an upload to {self.registry}/{name}")
            location = self._location(response)
        with blobs.open(descriptor) as file:
            if descriptor.size > UPLOAD_CHUNK:
                location = self._send_pieces(name, location, file, descriptor.size, advance)
                body = b""
            else:
                body = file.read(descriptor.size)
            separator = "&" if "?" in location else "?"
            response = self._ask(
                "PUT",
                f"{location}{separator}digest={descriptor.digest}",
                _push(name),
                headers={"Content-Type": "application/octet-stream"},
                content=body,
            )
        self._expect(response, (201,), f"blob {descriptor.digest} to {self.registry}/{name}")
        if advance and body:
            advance(len(body))
        return descriptor.size

    def _send_pieces(
        self, name: str, location: str, file: BinaryIO, size: int, advance: Advance | None
    ) -> str:
        """Send all bytes with PATCH; after a break, ask how far it came and go on from there."""
        offset, failures = 0, 0
        while offset < size:
            file.seek(offset)
            piece = file.read(UPLOAD_CHUNK)
            headers = {
                "Content-Type": "application/octet-stream",
                "Content-Range": f"{offset}-{offset + len(piece) - 1}",
            }
            reached = offset + len(piece)
            try:
                response = self._once("PATCH", location, _push(name), headers, piece)
                if response.status_code in _RETRIED or response.status_code == 416:
                    raise httpx.TransportError(f"the registry answers {response.status_code}")
                self._expect(response, (202, 201, 204), f"a blob to {self.registry}/{name}")
                location = self._location(response)
            except httpx.TransportError as error:
                failures += 1
                if failures == _ATTEMPTS:
                    raise self._unreachable(error) from error
                self._wait(failures - 1, None)
                location, reached = self._resume(name, location)
                if reached > size:
                    raise Corrupt(
                        f"{self.registry} says it has {reached} of {size} bytes"
                    ) from error
            if advance and reached > offset:
                advance(reached - offset)
            offset = reached
        return location

    def _resume(self, name: str, location: str) -> tuple[str, int]:
        """Where an upload goes on, and how many bytes the registry has."""
        response = self._ask("GET", location, _push(name))
        self._expect(response, (204, 202, 200), f"an upload to {self.registry}/{name}")
        held = re.fullmatch(r"(?:bytes=)?0-(\d+)", response.headers.get("Range", ""))
        # "0-0" is also what registries say of an upload that has nothing yet
        reached = int(held[1]) + 1 if held and held[1] != "0" else 0
        return self._location(response) or location, reached

    # -- how it is asked --------------------------------------------------------------------

    def _location(self, response: httpx.Response) -> str:
        """The upload's address. One on another host is followed, as object stores need it."""
        location = response.headers.get("Location", "")
        return urljoin(str(response.request.url), location) if location else ""

    def _ask(
        self,
        method: str,
        path: str,
        scope: str,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """One request, repeated when the line or the registry fails for the moment."""
        for attempt in range(_ATTEMPTS):
            last = attempt == _ATTEMPTS - 1
            try:
                response = self._once(method, path, scope, headers, content)
            except httpx.TransportError as error:
                # an address where nobody listens will not start to while we wait
                if last or (isinstance(error, httpx.ConnectError) and not attempt):
                    raise self._unreachable(error) from error
                self._wait(attempt, None)
                continue
            if response.status_code not in _RETRIED or last:
                return response
            log.info("%s answers %s, trying again", self.registry, response.status_code)
            self._wait(attempt, response)
        raise AssertionError("the loop returns or raises")

    def _once(
        self,
        method: str,
        path: str,
        scope: str,
        headers: Mapping[str, str] | None,
        content: bytes | None,
    ) -> httpx.Response:
        with self._stream(method, path, scope, headers, content) as response:
            if method != "HEAD":
                data = _read_bounded(response, MANIFEST_LIMIT, f"the answer of {self.registry}")
                response._content = data
            return response

    def _stream(
        self,
        method: str,
        path: str,
        scope: str,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> "_Answer":
        """Send a request with what authorization there is; on 401 get more and send it again."""
        if not self._base:
            self._base = self._find_scheme()
        url = path if "://" in path else self._base + path
        foreign = urlsplit(url).netloc != urlsplit(self._base).netloc
        answer = self._send(method, url, scope, headers, content, foreign)
        if answer.response.status_code == 401 and not foreign:
            challenge = answer.response.headers.get("WWW-Authenticate", "")
            answer.response.close()
            self._authorize(challenge, scope)
            answer = self._send(method, url, scope, headers, content, foreign)
            if answer.response.status_code == 401:
                answer.response.close()
                raise self._unauthorized(401)
        return answer

    def _send(
        self,
        method: str,
        url: str,
        scope: str,
        headers: Mapping[str, str] | None,
        content: bytes | None,
        foreign: bool,
    ) -> "_Answer":
        sent = dict(headers or {})
        # the credential is for the registry alone, never for where it points us
        authorization = self._tokens.get(scope) or self._tokens.get("")
        if authorization and not foreign:
            sent["Authorization"] = authorization
        self._trust(url)
        request = self._http.build_request(method, url, headers=sent, content=content)
        response = self._http.send(request, stream=True)
        for _hop in range(5):
            if response.next_request is None or method not in ("GET", "HEAD"):
                break
            following = response.next_request
            if following.url.scheme == "http" and request.url.scheme == "https":
                response.close()
                raise Corrupt(f"{self.registry} leads from HTTPS to plain HTTP")
            if following.url.netloc != request.url.netloc:
                following.headers.pop("Authorization", None)
            response.close()
            self._trust(str(following.url))
            response = self._http.send(following, stream=True)
        return _Answer(response)

    def _find_scheme(self) -> str:
        """`http://...` where it may be and answers, `https://...` otherwise."""
        secure = f"https://{self.registry}"
        if not (self._loopback or self._plain_http):
            return secure
        plain = f"http://{self.registry}"
        try:
            response = self._http.get(plain + "/v2/")
        except httpx.RemoteProtocolError:
            return secure
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        # Go's and nginx's servers answer 400 to plain HTTP on a TLS port
        return secure if response.status_code == 400 else plain

    def _trust(self, url: str) -> None:
        """Before the first request over TLS, learn the authorities to trust."""
        if self._trusting or not url.startswith("https:"):
            return
        self._tls.load_default_certs()
        for folder in (Path("/etc/docker/certs.d"), Path.home() / ".docker" / "certs.d"):
            for certificate in sorted((folder / self.registry).glob("*.crt")):
                self._tls.load_verify_locations(certificate)
        self._trusting = True

    def _authorize(self, challenge: str, scope: str) -> None:
        """Answer a `WWW-Authenticate` challenge, keeping the outcome for the scope."""
        if not self._credential_sought:
            self._credential = find_credential(self.registry)
            self._credential_sought = True
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic":
            if not self._credential:
                raise self._unauthorized(401)
            basic = httpx.BasicAuth(self._credential.username, self._credential.password)
            self._tokens[""] = basic._auth_header
        elif kind.lower() == "bearer":
            parameters = dict(re.findall(r'(\w+)="([^"]*)"', rest))
            self._tokens[scope] = "Bearer " + self._token(parameters, scope)
        else:
            raise Unauthorized(f"{self.registry} asks for an unknown authentication {kind!r}")

    def _token(self, parameters: Mapping[str, str], scope: str) -> str:
        realm = parameters.get("realm", "")
        secure = realm.startswith("https://") or self._base.startswith("http://")
        if not realm.startswith(("https://", "http://")) or not secure:
            raise Unauthorized(f"{self.registry} names no safe place to get a token from")
        query: list[tuple[str, str | int | float | bool | None]] = []
        if "service" in parameters:
            query.append(("service", parameters["service"]))
        query += [
            ("scope", part) for part in (scope or parameters.get("scope", "")).split(" ") if part
        ]
        credential = self._credential
        self._trust(realm)
        try:
            if credential and credential.identity_token:
                form = dict(query) | {
                    "grant_type": "refresh_token",
                    "refresh_token": credential.identity_token,
                    "client_id": "edgekit",
                }
                response = self._http.post(realm, data=form)
            else:
                auth = (credential.username, credential.password) if credential else None
                response = self._http.get(realm, params=httpx.QueryParams(query), auth=auth)
        except httpx.TransportError as error:
            raise Unreachable(f"the token service of {self.registry} does not answer") from error
        if response.status_code != 200:
            raise self._unauthorized(response.status_code)
        try:
            value = response.json()
            return str(value.get("token") or value["access_token"])
        except (ValueError, KeyError, AttributeError) as error:
            raise Unauthorized(f"the token service of {self.registry} gives no token") from error

    def _expect(self, response: httpx.Response, codes: tuple[int, ...], what: str) -> None:
        if response.status_code in codes:
            return
        if response.status_code in (401, 403):
            raise self._unauthorized(response.status_code)
        if response.status_code == 404:
            raise OciError(f"{what} is not there")
        raise OciError(
            f"{self.registry} answers {response.status_code} for {what}{_reason(response)}"
        )

    def _unauthorized(self, code: int) -> Unauthorized:
        if self._credential:
            user = self._credential.username or "the token"
            return Unauthorized(
                f"{self.registry} refuses {user} ({code})", f"docker login {self.registry}"
            )
        return Unauthorized(
            f"{self.registry} wants credentials and the Docker config has none",
            f"docker login {self.registry}",
        )

    def _unreachable(self, error: Exception) -> Unreachable:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return Unreachable(
                f"the certificate of {self.registry} is not trusted",
                f"put its authority's certificate into certs.d/{self.registry} of Docker's"
                " configuration, or name it in SSL_CERT_FILE",
            )
        cause = str(error) or type(error).__name__
        return Unreachable(f"no registry answers at {self.registry}: {cause}", "is it running?")

    def _wait(self, attempt: int, response: httpx.Response | None) -> None:
        seconds = self._backoff * 2**attempt
        asked = response.headers.get("Retry-After", "") if response is not None else ""
        if asked.isdigit():
            seconds = max(seconds, float(asked))
        time.sleep(min(seconds, 30))


class _Answer:
    """A response to be read within a `with` block, which closes it."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response

    def __enter__(self) -> httpx.Response:
        return self.response

    def __exit__(self, *_what: object) -> None:
        self.response.close()


def _pull(name: str) -> str:
    return f"repository:{name}:pull"


def _push(name: str) -> str:
    return f"repository:{name}:pull,push"


def _read_bounded(response: httpx.Response, limit: int, what: str) -> bytes:
    data = bytearray()
    for piece in _pieces(response):
        data += piece
        if len(data) > limit:
            raise Corrupt(f"{what} is longer than {limit} bytes")
    return bytes(data)


def _pieces(response: httpx.Response) -> Iterator[bytes]:
    return response.iter_bytes(64 * 1024)


def _reason(response: httpx.Response) -> str:
    """What the registry's error document says, shortened; it may be anything."""
    try:
        errors = response.json()["errors"]
        return (
            ": "
            + "; ".join(str(error.get("message") or error.get("code")) for error in errors)[:200]
        )
    except (ValueError, KeyError, TypeError, AttributeError, httpx.ResponseNotRead):
        return ""
