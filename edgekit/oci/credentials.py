"""Registry credentials from the Docker config: `auths`, `credHelpers` and `credsStore`."""

import base64
import binascii
import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.errors import Unauthorized

_HELPER_SECONDS = 30


@dataclass(frozen=True)
class Credential:
    """A user name and password, or an identity token; never shown by `repr`."""

    username: str
    password: str = field(repr=False)
    identity_token: str = field(default="", repr=False)


def find_credential(registry: str, config: Path | None = None) -> Credential | None:
    """The credential kept for `registry`, None where there is none.

    Args:
        registry: host and port as in a reference.
        config: the Docker config's file; `config.json` in `DOCKER_CONFIG` or `~/.docker`.

    Raises:
        Unauthorized: the config, or the helper it names, does not work.
    """
    path = (
        config or Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    )
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Unauthorized(f"the Docker config {path} does not read: {error}") from error
    if not isinstance(value, dict):
        raise Unauthorized(f"the Docker config {path} is no JSON object")
    helper = _mapping(value, "credHelpers").get(registry) or value.get("credsStore")
    if helper and (credential := _from_helper(str(helper), registry)):
        return credential
    auths = _mapping(value, "auths")
    for key in (registry, f"https://{registry}", f"http://{registry}", f"https://{registry}/v1/"):
        if isinstance(entry := auths.get(key), dict):
            return _from_entry(entry, registry, path)
    return None


def _mapping(value: dict[str, Any], name: str) -> dict[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _from_entry(entry: dict[str, Any], registry: str, path: Path) -> Credential | None:
    token = str(entry.get("identitytoken") or "")
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            decoded = base64.b64decode(str(entry["auth"]), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise Unauthorized(
                f"the credential for {registry} in {path} does not read", f"docker login {registry}"
            ) from error
        username, _, password = decoded.partition(":")
    if not (username or token):
        return None
    return Credential(username, password.rstrip("\0"), token)


def _from_helper(helper: str, registry: str) -> Credential | None:
    """Ask `docker-credential-HELPER get`: registry by stdin, secret by stdout."""
    program = f"docker-credential-{helper}"
    try:
        answer = subprocess.run(
            [program, "get"],
            input=registry.encode(),
            capture_output=True,
            timeout=_HELPER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unauthorized(
            f"the credential helper {program} does not work: {type(error).__name__}",
            "install it, or take it out of the Docker config",
        ) from error
    if answer.returncode:
        # the protocol's word for "I have none" comes with an error code too
        return None
    try:
        value = json.loads(answer.stdout)
        username, secret = str(value["Username"]), str(value["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise Unauthorized(f"the credential helper {program} gave no credential") from error
    if username == "<token>":
        return Credential("", "", secret)
    return Credential(username, secret)
