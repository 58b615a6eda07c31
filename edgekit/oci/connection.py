"""How a registry is asked: its scheme, whom to trust, who asks, and what is tried again."""

import logging
import ssl
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx

from edgekit.errors import Corrupt, OciError, Unreachable
from edgekit.oci.authorization import Authorizer
from edgekit.oci.credentials import Credential
from edgekit.oci.descriptor import MANIFEST_LIMIT
from edgekit.oci.reference import Reference

log = logging.getLogger(__name__)

ATTEMPTS = 5
# a document that takes longer has been held back: the timeouts are for each piece alone
DOCUMENT_SECONDS = 300
RETRIED = frozenset({408, 429, 500, 502, 503, 504})


class Connection:
    """Sends requests to one registry, as one user; see `edgekit.oci.client.RegistryClient`.

    Args:
        reference: any image of the registry.
        credential: taken from the Docker config where None.
        plain_http: talk HTTP without TLS to a registry on another machine.
        backoff: seconds before the first retry, doubled with each further one.
        transport: replaces httpx's own, for tests without a socket.
    """

    def __init__(
        self,
        reference: Reference,
        credential: Credential | None,
        plain_http: bool,
        backoff: float,
        transport: httpx.BaseTransport | None,
    ) -> None:
        self.registry = reference.registry
        self.base = ""
        self._loopback = reference.loopback
        self._plain_http = plain_http
        self._backoff = backoff
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
        self._authorizer = Authorizer(self.registry, credential, self._http, self._trust)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def location(self, response: httpx.Response) -> str:
        """The upload's address. One on another host is followed, as object stores need it."""
        location = response.headers.get("Location", "")
        return urljoin(str(response.request.url), location) if location else ""

    def ask(
        self,
        method: str,
        path: str,
        scope: str,
        headers: Mapping[str, str] | None = None,
        content: bytes | Iterable[bytes] | None = None,
    ) -> httpx.Response:
        """One request, repeated when the line or the registry fails for the moment."""
        for attempt in range(ATTEMPTS):
            last = attempt == ATTEMPTS - 1
            try:
                response = self.once(method, path, scope, headers, content)
            except httpx.TransportError as error:
                # an address where nobody listens will not start to while we wait
                if last or (isinstance(error, httpx.ConnectError) and not attempt):
                    raise self.unreachable(error) from error
                self.wait(attempt, None)
                continue
            if response.status_code not in RETRIED or last:
                return response
            log.info("%s answers %s, trying again", self.registry, response.status_code)
            self.wait(attempt, response)
        raise AssertionError("the loop returns or raises")

    def once(
        self,
        method: str,
        path: str,
        scope: str,
        headers: Mapping[str, str] | None,
        content: bytes | Iterable[bytes] | None,
    ) -> httpx.Response:
        """One request with its whole answer, which is short; sent once."""
        with self.stream(method, path, scope, headers, content) as response:
            if method != "HEAD":
                data = read_bounded(response, MANIFEST_LIMIT, f"the answer of {self.registry}")
                response._content = data
            return response

    def stream(
        self,
        method: str,
        path: str,
        scope: str,
        headers: Mapping[str, str] | None = None,
        content: bytes | Iterable[bytes] | None = None,
    ) -> "Answer":
        """Send a request with what authorization there is; on 401 get more and send it again."""
        if not self.base:
            self.base = self._find_scheme()
        url = path if "://" in path else self.base + path
        foreign = urlsplit(url).netloc != urlsplit(self.base).netloc
        answer = self._send(method, url, scope, headers, content, foreign)
        if answer.response.status_code == 401 and not foreign:
            challenge = answer.response.headers.get("WWW-Authenticate", "")
            answer.response.close()
            self._authorizer.answer(challenge, scope, self.base.startswith("https:"))
            answer = self._send(method, url, scope, headers, content, foreign)
            if answer.response.status_code == 401:
                answer.response.close()
                raise self._authorizer.refused(401)
        return answer

    def _send(
        self,
        method: str,
        url: str,
        scope: str,
        headers: Mapping[str, str] | None,
        content: bytes | Iterable[bytes] | None,
        foreign: bool,
    ) -> "Answer":
        sent = dict(headers or {})
        # the credential is for the registry alone, never for where it points us
        authorization = self._authorizer.header(scope)
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
        return Answer(response)

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
            raise self.unreachable(error) from error
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

    def expect(self, response: httpx.Response, codes: tuple[int, ...], what: str) -> None:
        """Raise what an answer means that has none of the codes."""
        if response.status_code in codes:
            return
        if response.status_code in (401, 403):
            raise self._authorizer.refused(response.status_code)
        if response.status_code == 404:
            raise OciError(f"{what} is not there")
        raise OciError(
            f"{self.registry} answers {response.status_code} for {what}{_reason(response)}"
        )

    def unreachable(self, error: Exception) -> Unreachable:
        """What to raise where the line failed so."""
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return Unreachable(
                f"the certificate of {self.registry} is not trusted",
                f"put its authority's certificate into certs.d/{self.registry} of Docker's"
                " configuration, or name it in SSL_CERT_FILE",
            )
        cause = str(error) or type(error).__name__
        return Unreachable(f"no registry answers at {self.registry}: {cause}", "is it running?")

    def wait(self, attempt: int, response: httpx.Response | None) -> None:
        """Wait before another attempt, as long as the answer asks for."""
        seconds = self._backoff * 2**attempt
        asked = response.headers.get("Retry-After", "") if response is not None else ""
        if asked.isdigit():
            seconds = max(seconds, float(asked))
        time.sleep(min(seconds, 30))


class Answer:
    """A response to be read within a `with` block, which closes it."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response

    def __enter__(self) -> httpx.Response:
        return self.response

    def __exit__(self, *_what: object) -> None:
        self.response.close()


def read_bounded(response: httpx.Response, limit: int, what: str) -> bytes:
    """The body of an answer.

    Raises:
        Corrupt: it is longer than `limit`.
        Unreachable: it comes so slowly that it may never end.
    """
    data = bytearray()
    until = time.monotonic() + DOCUMENT_SECONDS
    for piece in response.iter_bytes():
        data += piece
        if len(data) > limit:
            raise Corrupt(f"{what} is longer than {limit} bytes")
        if time.monotonic() > until:
            raise Unreachable(f"{what} is not there after {DOCUMENT_SECONDS} s", "try again later")
    return bytes(data)


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
