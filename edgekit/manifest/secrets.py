"""Recognises what should not be written into a manifest, which every reader of the hub sees.

Deliberately simple: the names and the shapes of values that are secrets in practice. It is a
guard against accidents, not against intent.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_NAME = re.compile(
    r"(?:password|passwd|secret|token|credentials?|connection_?string"
    r"|(?:api|access|account|private|shared)_?-?key)\Z",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"SharedAccessKey=|AccountKey=|SharedAccessSignature|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\b[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s@]+@"
)


def looks_secret(name: str, value: str) -> str:
    """Why `value` under `name` looks like a secret, or "" when it does not.

    The reason never holds the value.
    """
    if _VALUE.search(value):
        return "the value looks like a credential"
    if value and _NAME.search(name):
        return f"{name} looks like the name of a secret"
    return ""


def secrets(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Where in JSON data something looks like a secret, as (path, reason)."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from secrets(value, (*path, str(key)))
    elif isinstance(data, list):
        for position, value in enumerate(data):
            yield from secrets(value, (*path, str(position)))
    elif isinstance(data, str):
        # env entries are {"NAME": {"value": "..."}}
        names = [name for name in path if name != "value"]
        reason = looks_secret(names[-1] if names else "", data)
        if reason:
            yield path, reason
