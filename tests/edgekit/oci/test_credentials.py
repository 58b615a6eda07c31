"""Credentials: from the Docker config and its helpers, and never shown."""

import base64
import json
import stat

import pytest

from edgekit.errors import Unauthorized
from edgekit.oci.credentials import Credential, find_credential


@pytest.fixture
def config(tmp_path):
    def write(value):
        path = tmp_path / "config.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path

    return write


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """A credential helper on the PATH with a script of its own."""

    def write(script):
        path = tmp_path / "docker-credential-test"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return write


def auth(text):
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("key", ["r.io:5000", "https://r.io:5000", "http://r.io:5000"])
def test_a_login_is_found(config, key):
    path = config({"auths": {key: {"auth": auth("edge:s3:cret")}}})
    assert find_credential("r.io:5000", path) == Credential("edge", "s3:cret")


def test_an_identity_token_is_found(config):
    path = config({"auths": {"r.io": {"auth": auth("edge:"), "identitytoken": "t0ken"}}})
    assert find_credential("r.io", path) == Credential("edge", "", "t0ken")


def test_nobody_logged_in(config, tmp_path):
    assert find_credential("r.io", config({"auths": {}})) is None
    assert find_credential("r.io", tmp_path / "none.json") is None


@pytest.mark.parametrize("setting", [{"credsStore": "test"}, {"credHelpers": {"r.io": "test"}}])
def test_a_helper_is_asked_by_stdin(config, helper, setting):
    helper('read host; printf \'{"Username": "edge", "Secret": "for %s"}\' "$host"')
    assert find_credential("r.io", config(setting)) == Credential("edge", "for r.io")


def test_a_helpers_token_is_one(config, helper):
    helper('echo \'{"Username": "<token>", "Secret": "t0ken"}\'')
    assert find_credential("r.io", config({"credsStore": "test"})) == Credential("", "", "t0ken")


def test_a_helper_without_an_answer_leaves_the_rest_of_the_config(config, helper):
    helper("echo credentials not found in native keychain; exit 1")
    path = config({"credsStore": "test", "auths": {"r.io": {"auth": auth("edge:s3cret")}}})
    assert find_credential("r.io", path) == Credential("edge", "s3cret")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "does not read"),
        ("[]", "no JSON object"),
        ({"auths": {"r.io": {"auth": "%%%"}}}, "credential for r.io"),
        ({"credsStore": "missing"}, "docker-credential-missing does not work"),
    ],
)
def test_a_broken_config_is_told(config, value, message):
    with pytest.raises(Unauthorized, match=message):
        find_credential("r.io", config(value))


def test_a_helper_that_talks_nonsense_is_told_without_what_it_said(config, helper):
    helper("echo s3cret")
    with pytest.raises(Unauthorized, match="gave no credential") as error:
        find_credential("r.io", config({"credsStore": "test"}))
    assert "s3cret" not in str(error.value)


def test_a_credential_does_not_show():
    assert "s3cret" not in repr(Credential("edge", "s3cret", "s3cret"))
