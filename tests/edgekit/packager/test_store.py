"""Fetching: a server that fails for the moment is asked again, and none is trusted."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from edgekit.errors import Corrupt, Unreachable
from edgekit.packager.store import get


@contextmanager
def serving(*answers, **headers):
    """A server that gives one answer (status, body) after the other; its URL and how many went."""
    waiting, asked = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            status, body = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_what):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/file", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fetch(url, limit=100):
    with httpx.Client() as client:
        return get(client, url, limit, backoff=0)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_server_that_fails_for_the_moment_is_asked_again(status):
    with serving((status, b""), (status, b""), (200, b"file")) as (url, asked):
        assert fetch(url) == b"file"
        assert len(asked) == 3


def test_it_is_not_asked_for_ever():
    with serving((503, b"")) as (url, asked):
        with pytest.raises(Unreachable, match="file: the server answers 503"):
            fetch(url)
        assert len(asked) == 4


@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_other_answers_are_final(status):
    with serving((status, b"")) as (url, asked):
        with pytest.raises(Unreachable, match=f"answers {status}"):
            fetch(url)
        assert len(asked) == 1


def test_it_waits_as_long_as_the_server_asks(monkeypatch):
    waited = []
    monkeypatch.setattr("edgekit.packager.store.time.sleep", waited.append)
    with serving((429, b""), (200, b"file"), Retry_After="7") as (url, _asked):
        assert fetch(url) == b"file"
    assert waited == [7]


def test_no_more_is_read_than_there_should_be():
    with serving((200, b"x" * 101)) as (url, _asked), pytest.raises(Corrupt, match="longer than"):
        fetch(url)
