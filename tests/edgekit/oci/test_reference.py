"""References name a registry, a repository, and a tag or digest."""

import pytest

from edgekit.errors import OciError
from edgekit.oci.reference import Reference

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost:5000/digits:1", Reference("localhost:5000", "digits", "1")),
        ("registry.example.com/a/b", Reference("registry.example.com", "a/b", "latest")),
        (f"localhost/digits@{DIGEST}", Reference("localhost", "digits", "", DIGEST)),
        (f"r.io/digits:1@{DIGEST}", Reference("r.io", "digits", "1", DIGEST)),
        ("[::1]:5000/digits:1", Reference("[::1]:5000", "digits", "1")),
    ],
)
def test_what_is_written_is_read(text, expected):
    assert Reference.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["digits:1", "library/digits", "r.io/Digits", "r.io/digits:a b", "r.io/d@sha256:00", ""]
)
def test_what_is_no_reference_is_refused_with_an_example(text):
    with pytest.raises(OciError) as error:
        Reference.parse(text)
    assert "REGISTRY/NAME:TAG" in error.value.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost:5000/d", True),
        ("127.3.2.1/d", True),
        ("[::1]:5000/d", True),
        ("localhost.example.com/d", False),
        ("10.0.0.1:5000/d", False),
    ],
)
def test_only_this_machine_is_loopback(text, expected):
    assert Reference.parse(text).loopback == expected


def test_the_digest_wins():
    assert Reference.parse(f"r.io/d:1@{DIGEST}").target == DIGEST
