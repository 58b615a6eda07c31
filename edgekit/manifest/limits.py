"""The limits of a twin, as IoT Hub documents and enforces them.

Sizes: a key or a string counts its UTF-8 bytes without control characters (C0 and C1), a number
8 bytes, a boolean 4. See "Understand and use device twins in IoT Hub", section "Device twin size".
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

DESIRED_BYTES = 32 * 1024
KEY_BYTES = 1024
STRING_BYTES = 4 * 1024
DEPTH = 10
LOWEST_INTEGER = -(2**52)
HIGHEST_INTEGER = 2**52 - 1
MODULES = 50

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_KEY = re.compile(r"[^.$#\s\x00-\x1f\x7f-\x9f]+\Z")

# where in the data, what is wrong
Violation = tuple[tuple[str, ...], str]


def text_size(text: str) -> int:
    """Bytes of a key or a string, as the hub counts them."""
    return len(_CONTROL.sub("", text).encode("utf-8", "surrogatepass"))


def twin_size(value: Any) -> int:
    """Bytes of a JSON value in a twin, as the hub counts them; `$version` and such left out."""
    if isinstance(value, Mapping):
        return sum(
            text_size(key) + twin_size(item)
            for key, item in value.items()
            if not key.startswith("$")
        )
    if isinstance(value, list):
        return sum(map(twin_size, value))
    if isinstance(value, str):
        return text_size(value)
    if isinstance(value, bool):
        return 4
    return 0 if value is None else 8


def violations(properties: Mapping[str, Any], most: int = DESIRED_BYTES) -> Iterator[Violation]:
    """Everything for which the hub would refuse these properties, as (path, what is wrong)."""
    size = twin_size(properties)
    if size > most:
        yield (), f"{size} bytes, the hub takes {most}"
    yield from _walk((), properties, 0)


def _walk(path: tuple[str, ...], value: Any, depth: int) -> Iterator[Violation]:
    if isinstance(value, Mapping):
        if depth >= DEPTH and value:
            yield path, f"nested deeper than {DEPTH} levels"
            return
        for key, item in value.items():
            here = (*path, key)
            if not _KEY.match(key):
                yield here, "a key holds none of '.', '$', '#', white space, control characters"
            if text_size(key) > KEY_BYTES:
                yield path, f"key {key[:20]}... takes {text_size(key)} bytes, the hub {KEY_BYTES}"
            yield from _walk(here, item, depth + 1)
    elif isinstance(value, list):
        for position, item in enumerate(value):
            if item is None:
                yield (*path, str(position)), "a list holds no null"
            else:
                yield from _walk((*path, str(position)), item, depth + 1)
    else:
        yield from _scalar(path, value)


def _scalar(path: tuple[str, ...], value: Any) -> Iterator[Violation]:
    if isinstance(value, str) and text_size(value) > STRING_BYTES:
        yield path, f"a string of {text_size(value)} bytes, the hub takes {STRING_BYTES}"
    if isinstance(value, int) and not LOWEST_INTEGER <= value <= HIGHEST_INTEGER:
        yield path, f"integer {value} is outside -2^52..2^52-1"
    if isinstance(value, float) and not math.isfinite(value):
        yield path, f"{value} is no JSON number"
