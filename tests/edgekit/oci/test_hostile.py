"""Registries that lie, stop, or never end: one clear error, nothing kept, little memory."""

import hashlib
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from edgekit.errors import Corrupt, OciError, Unauthorized, Unreachable
from edgekit.oci.authorization import Authorizer
from edgekit.oci.blobs import Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.descriptor import LAYER, MANIFEST, Descriptor
from edgekit.oci.layer import Entry, write_layer
from edgekit.oci.reference import Reference
from edgekit.oci.transfer import pull

DIGEST = "sha256:" + hashlib.sha256(b"true").hexdigest()
BLOB = Descriptor(LAYER, DIGEST, 4)


@contextmanager
def answering(respond):
    """An HTTP server whose every request is answered by `respond(handler, count)`."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self):
            length = int(self.headers.get("Content-Length") or 0)
            self.body = self.rfile.read(length) if length else b""
            if self.path == "/v2/":
                answer(self, 200)
                return
            seen.append((self.command, self.path))
            respond(self, len(seen))

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = handle_any  # noqa: N815

        def log_message(self, *_what):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen = seen
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server, Reference.parse(f"127.0.0.1:{server.server_port}/digits:1")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def client_of(respond):
    """A client that talks to such a server, and the server."""
    with (
        answering(respond) as (server, reference),
        RegistryClient(reference, backoff=0) as client,
    ):
        yield client, server


def answer(handler, status, body=b"", **headers):
    handler.send_response(status)
    for name, value in ({"Content-Length": str(len(body))} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def fetch(respond, tmp_path):
    blobs = Blobs(tmp_path / "fetched")
    with client_of(respond) as (client, _server):
        client.get_blob("digits", BLOB, blobs)
    return blobs


def kept(tmp_path):
    folder = tmp_path / "fetched" / "sha256"
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def test_another_digest(tmp_path):
    with pytest.raises(Corrupt, match=f"expected {DIGEST}"):
        fetch(lambda handler, _count: answer(handler, 200, b"lies"), tmp_path)
    assert kept(tmp_path) == []


def test_a_blob_that_never_ends(tmp_path):
    sent = []

    def respond(handler, _count):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        try:
            for _piece in range(100_000):
                handler.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                sent.append(1)
        except OSError:
            handler.close_connection = True

    with pytest.raises(Corrupt, match="sends more than the 4 bytes"):
        fetch(respond, tmp_path)
    assert kept(tmp_path) == []
    assert len(sent) < 10_000


def test_a_blob_that_breaks_off_is_asked_for_again(tmp_path):
    def respond(handler, count):
        if count < 3:
            answer(handler, 200, b"tr", Content_Length="4")
            handler.close_connection = True
        else:
            answer(handler, 200, b"true")

    assert fetch(respond, tmp_path).read(BLOB) == b"true"


def test_a_manifest_that_never_ends(tmp_path):
    def respond(handler, _count):
        answer(handler, 200, bytes(5 * 1024 * 1024), Content_Type=MANIFEST)

    with (
        answering(respond) as (_server, reference),
        pytest.raises(Corrupt, match="longer than 4194304 bytes"),
    ):
        pull(reference, Blobs(tmp_path / "fetched"))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"[]", "no JSON object"),
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"{}", "no list of layers"),
        (b'{"layers": [1], "config": {}}', "descriptor does not read"),
        (
            json.dumps(
                {"layers": [], "config": {"mediaType": "x", "digest": "sha256:../../x", "size": 1}}
            ).encode(),
            "no sha256 digest",
        ),
        (
            json.dumps(
                {"layers": [], "config": {"mediaType": "x", "digest": DIGEST, "size": -1}}
            ).encode(),
            "-1 bytes",
        ),
    ],
)
def test_manifests_that_are_none(tmp_path, document, message):
    def respond(handler, _count):
        answer(handler, 200, document, Content_Type=MANIFEST)

    with answering(respond) as (_server, reference), pytest.raises(Corrupt, match=message):
        pull(reference, Blobs(tmp_path / "fetched"))


def test_a_manifest_that_comes_by_the_byte_is_given_up(monkeypatch):
    monkeypatch.setattr("edgekit.oci.connection.DOCUMENT_SECONDS", 0.2)

    def respond(handler, _count):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        try:
            for _piece in range(1000):
                handler.wfile.write(b" ")
                time.sleep(0.01)
        except OSError:
            handler.close_connection = True

    with (
        client_of(respond) as (client, _server),
        pytest.raises(Unreachable, match="is not there after"),
    ):
        client.get_manifest("digits", "1")


def test_a_blob_of_a_registry_that_fails_for_the_moment_is_asked_for_again(tmp_path):
    def respond(handler, count):
        answer(handler, 503 if count < 3 else 200, b"true")

    assert fetch(respond, tmp_path).read(BLOB) == b"true"


def test_a_manifest_with_another_digest_than_asked_for(tmp_path):
    def respond(handler, _count):
        answer(handler, 200, b'{"layers": []}', Content_Type=MANIFEST)

    with answering(respond) as (_server, reference), pytest.raises(Corrupt, match="gave sha256:"):
        pull(reference.at(DIGEST), Blobs(tmp_path / "fetched"))


def test_a_web_server_is_no_registry():
    def respond(handler, _count):
        answer(handler, 404, b"<html>")

    with client_of(respond) as (client, _), pytest.raises(OciError, match="is not there"):
        client.get_manifest("digits", "1")


def test_a_busy_registry_is_asked_again_and_not_for_ever():
    with answering(lambda handler, _count: answer(handler, 503)) as (server, reference):
        with RegistryClient(reference, backoff=0) as client, pytest.raises(OciError, match="503"):
            client.get_manifest("digits", "1")
        assert len(server.seen) < 10


def test_the_password_does_not_follow_a_redirect(tmp_path, login):
    received = []

    def elsewhere(handler, _count):
        received.append(handler.headers.get("Authorization"))
        answer(handler, 200, b"true")

    with answering(elsewhere) as (other, _reference):

        def respond(handler, _count):
            if not handler.headers.get("Authorization"):
                answer(handler, 401, WWW_Authenticate='Basic realm="test"')
            else:
                where = f"http://localhost:{other.server_port}/blob"
                answer(handler, 307, Location=where)

        with answering(respond) as (_server, reference):
            login(reference.registry, "edge", "s3cret")
            blobs = Blobs(tmp_path / "fetched")
            with RegistryClient(reference, backoff=0) as client:
                client.get_blob("digits", BLOB, blobs)
    assert received == [None]
    assert blobs.read(BLOB) == b"true"


@pytest.mark.parametrize("realm", ["ftp://token", ""])
def test_tokens_come_from_safe_places_only(realm):
    challenge = f'Bearer realm="{realm}",service="x"'

    def respond(handler, _count):
        answer(handler, 401, WWW_Authenticate=challenge)

    with (
        client_of(respond) as (client, _server),
        pytest.raises(Unauthorized, match="no safe place"),
    ):
        client.get_manifest("digits", "1")


def test_a_registry_with_tls_has_a_token_service_with_tls():
    with httpx.Client() as http:
        authorizer = Authorizer("registry.example.com", None, http, lambda _address: None)
        with pytest.raises(Unauthorized, match="no safe place"):
            authorizer.answer('Bearer realm="http://token.example.com/"', "", secure=True)


def test_a_bearer_token_is_fetched_once_for_a_scope_and_used(login):
    asked = []

    def respond(handler, _count):
        if handler.path.startswith("/token"):
            asked.append((handler.path, handler.headers.get("Authorization")))
            answer(handler, 200, b'{"token": "t0ken"}')
        elif handler.headers.get("Authorization") == "Bearer t0ken":
            answer(handler, 200, b'{"layers": []}', Content_Type=MANIFEST)
        else:
            realm = f"http://{handler.headers['Host']}/token"
            challenge = f'Bearer realm="{realm}",service="registry",scope="ignored"'
            answer(handler, 401, WWW_Authenticate=challenge)

    with answering(respond) as (_server, reference):
        login(reference.registry, "edge", "s3cret")
        with RegistryClient(reference, backoff=0) as client:
            client.get_manifest("digits", "1")
            client.get_manifest("digits", "1")
    assert len(asked) == 1
    path, authorization = asked[0]
    assert path == "/token?service=registry&scope=repository%3Adigits%3Apull"
    assert authorization.startswith("Basic ")


def test_an_upload_goes_on_where_the_line_broke(blobs, monkeypatch):
    monkeypatch.setattr("edgekit.oci.upload.UPLOAD_CHUNK", 1000)
    layer = write_layer([Entry("data", content=bytes(range(250)) * 20)], blobs, "none").descriptor
    held = bytearray()
    breaks = iter((True, False, True))
    sent = []

    def respond(handler, _count):
        where = {"Location": "/v2/digits/blobs/uploads/1", "Range": f"0-{max(len(held) - 1, 0)}"}
        if handler.command == "PATCH":
            sent.append(len(handler.body))
            assert int(handler.headers["Content-Range"].split("-")[0]) == len(held)
            if next(breaks, False):
                # half of it arrived before the line broke
                held.extend(handler.body[:500])
                handler.close_connection = True
                handler.connection.close()
                return
            held.extend(handler.body)
            where["Range"] = f"0-{len(held) - 1}"
        status = {"POST": 202, "PATCH": 202, "GET": 204, "PUT": 201}[handler.command]
        answer(handler, status, **where)

    with client_of(respond) as (client, _server):
        client.put_blob("digits", layer, blobs)
    assert bytes(held) == blobs.path(layer.digest).read_bytes()
    assert sum(sent) == layer.size + 2 * 500


def test_a_registry_that_breaks_every_upload_is_given_up(blobs, monkeypatch):
    monkeypatch.setattr("edgekit.oci.upload.UPLOAD_CHUNK", 1000)
    layer = write_layer([Entry("data", content=bytes(5000))], blobs, "none").descriptor

    def respond(handler, _count):
        if handler.command == "PATCH":
            answer(handler, 503)
        else:
            answer(
                handler, 202 if handler.command == "POST" else 204, Location="/v2/up", Range="0-0"
            )

    with (
        answering(respond) as (_server, reference),
        RegistryClient(reference, backoff=0) as client,
        pytest.raises(Unreachable, match="503"),
    ):
        client.put_blob("digits", layer, blobs)
