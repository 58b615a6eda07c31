"""Device and module twins: tags, desired and reported properties, merge and limits.

A patch is merged as RFC 7396 says: an object goes into the object that is there, null removes a
key, anything else replaces. `$metadata` keeps for each key when it was last changed. The limits are
those the real service documents for twins.
"""

import datetime
import re
import secrets
from typing import Any

import orjson

from edgekit_sim.iothub.errors import HubFault

Json = dict[str, Any]

TAGS_LIMIT = 8 * 1024  # bytes, counted as `size` counts
PROPERTIES_LIMIT = 32 * 1024
KEY_LIMIT = 1024  # bytes of UTF-8
STRING_LIMIT = 4096
DEPTH_LIMIT = 10
INTEGER_LIMIT = 2**52
_FORBIDDEN_IN_KEY = re.compile(r"[.$#\s\x00-\x1f\x7f-\x9f]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Section:
    """One of a twin's two property sections, with its version and the times of its changes.

    Attributes:
        value: the properties, without `$version` and `$metadata`.
        version: counts the changes, from 1.
        metadata: the shape of `value` with `$lastUpdated` at every level, and for a section that
            is `counted` also with `$lastUpdatedVersion`.
    """

    __slots__ = ("_counted", "metadata", "value", "version")

    def __init__(
        self,
        value: Json | None = None,
        version: int = 1,
        metadata: Json | None = None,
        counted: bool = False,
    ):
        self.value: Json = value if value is not None else {}
        self.version = version
        self.metadata: Json = metadata if metadata is not None else {"$lastUpdated": EPOCH}
        self._counted = counted

    def patch(self, change: Json) -> None:
        """Merge `change` in; it has been checked."""
        self.version += 1
        self.value = merge(self.value, change)
        self.metadata = _merge_metadata(self.metadata, change, self._mark(timestamp()))

    def replace(self, value: Json) -> None:
        """Put `value` in the place of all that was there."""
        self.version += 1
        self.value = merge({}, value)
        self.metadata = _merge_metadata({}, value, self._mark(timestamp()))

    def _mark(self, moment: str) -> Json:
        """What the metadata of a changed value says."""
        return {
            "$lastUpdated": moment,
            **({"$lastUpdatedVersion": self.version} if self._counted else {}),
        }

    def changes(self, change: Json) -> Json:
        """The last change as an event tells it: with its own metadata only."""
        mark = self._mark(self.metadata["$lastUpdated"])
        metadata = _merge_metadata({}, change, mark)
        return {**change, "$metadata": metadata, "$version": self.version}

    def for_device(self) -> Json:
        """What a device gets: the properties and `$version`."""
        return {**self.value, "$version": self.version}

    def for_service(self) -> Json:
        """What the service side gets: also `$metadata`."""
        return {**self.value, "$metadata": self.metadata, "$version": self.version}


EPOCH = "0001-01-01T00:00:00Z"


def timestamp(moment: float | None = None) -> str:
    """A moment (seconds since 1970; now by default) as the service writes it."""
    instant = (
        datetime.datetime.now(datetime.UTC)
        if moment is None
        else datetime.datetime.fromtimestamp(moment, datetime.UTC)
    )
    return instant.strftime("%Y-%m-%dT%H:%M:%S.%f") + "0Z"


def new_etag() -> str:
    """A fresh entity tag, without quotes."""
    return secrets.token_urlsafe(9)


class Twin:
    """The document a device or module shares with the service."""

    __slots__ = ("desired", "etag", "model_id", "reported", "tags", "version")

    def __init__(self) -> None:
        self.tags: Json = {}
        self.desired = Section(counted=True)
        self.reported = Section()
        self.etag = new_etag()
        self.version = 1
        self.model_id = ""

    def changed(self) -> None:
        """Count a change: every change of the document has a new version and a new ETag."""
        self.version += 1
        self.etag = new_etag()

    def to_json(self) -> bytes:
        """The twin as the store keeps it."""
        return orjson.dumps(
            {
                "tags": self.tags,
                "etag": self.etag,
                "version": self.version,
                "modelId": self.model_id,
                "desired": [self.desired.value, self.desired.version, self.desired.metadata],
                "reported": [self.reported.value, self.reported.version, self.reported.metadata],
            }
        )

    @classmethod
    def from_json(cls, text: bytes) -> "Twin":
        """The twin that `to_json` wrote."""
        document = orjson.loads(text)
        twin = cls()
        twin.tags = document["tags"]
        twin.etag = document["etag"]
        twin.version = document["version"]
        twin.model_id = document["modelId"]
        value, version, metadata = document["desired"]
        twin.desired = Section(value, version, metadata, counted=True)
        twin.reported = Section(*document["reported"])
        return twin


def merge(target: Json, change: Json) -> Json:
    """`target` with `change` merged in; neither is altered."""
    merged = dict(target)
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            present = merged.get(key)
            merged[key] = merge(present if isinstance(present, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def _merge_metadata(target: Json, change: Json, mark: Json) -> Json:
    merged = {**target, **mark}
    for key, value in change.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            present = merged.get(key)
            inner = present if isinstance(present, dict) else {}
            merged[key] = _merge_metadata(inner, value, mark)
        else:
            merged[key] = dict(mark)
    return merged


def check_section(value: Any, name: str) -> Json:
    """Take a patch or a whole section of a twin, or refuse it.

    Args:
        value: the JSON as it was sent; top-level keys `$version` and `$metadata` are dropped.
        name: `tags`, `properties.desired` or `properties.reported`, for the message.

    Raises:
        HubFault: 400, when it is no object or breaks a rule for keys and values.
    """
    if not isinstance(value, dict):
        raise HubFault(400, "ArgumentInvalid", f"{name} must be a JSON object")
    section = {key: item for key, item in value.items() if key not in ("$version", "$metadata")}
    _check_object(section, name, 1)
    return section


def _check_object(value: Json, path: str, depth: int) -> None:
    if depth > DEPTH_LIMIT:
        raise HubFault(400, "ArgumentInvalid", f"{path} is nested deeper than {DEPTH_LIMIT} levels")
    for key, item in value.items():
        if not key or len(key.encode()) > KEY_LIMIT or _FORBIDDEN_IN_KEY.search(key):
            raise HubFault(
                400,
                "ArgumentInvalid",
                f"{path} has the key {key[:40]!r}: keys have 1 to {KEY_LIMIT} bytes"
                " without . $ # blanks and control characters",
            )
        _check_value(item, f"{path}.{key}", depth)


def _check_value(value: Any, path: str, depth: int) -> None:
    if isinstance(value, dict):
        _check_object(value, path, depth + 1)
    elif isinstance(value, list):
        if depth + 1 > DEPTH_LIMIT:
            raise HubFault(400, "ArgumentInvalid", f"{path} is nested deeper than {DEPTH_LIMIT}")
        for item in value:
            if item is None:
                raise HubFault(400, "ArgumentInvalid", f"{path} has null in an array")
            _check_value(item, path, depth + 1)
    elif isinstance(value, str):
        if len(value.encode()) > STRING_LIMIT:
            raise HubFault(
                400, "ArgumentInvalid", f"{path} is longer than {STRING_LIMIT} bytes of UTF-8"
            )
    elif isinstance(value, int) and not isinstance(value, bool) and abs(value) > INTEGER_LIMIT:
        raise HubFault(400, "ArgumentInvalid", f"{path} is an integer beyond 2^52")


def check_size(value: Json, name: str, limit: int) -> None:
    """Refuse a section that has grown over its limit.

    Raises:
        HubFault: 413, naming the section, its size and the limit in bytes.
    """
    total = size(value)
    if total > limit:
        raise HubFault(
            413, "RequestEntityTooLarge", f"{name} has {total} bytes, the limit is {limit}"
        )


def size(value: Any) -> int:
    """Bytes as the service counts them: numbers 8, booleans 4, control characters not at all."""
    if isinstance(value, dict):
        return sum(_text_size(key) + size(item) for key, item in value.items())
    if isinstance(value, list):
        return sum(size(item) for item in value)
    if isinstance(value, bool):
        return 4
    if isinstance(value, int | float):
        return 8
    return _text_size(value) if isinstance(value, str) else 0


def _text_size(text: str) -> int:
    return len(_CONTROL.sub("", text).encode())


def set_path(target: Json, path: list[str], value: Any) -> Json:
    """`target` with the value at `path` replaced as a whole; objects are made on the way."""
    if not path:
        return value if isinstance(value, dict) else target
    present = target.get(path[0])
    inner = present if isinstance(present, dict) else {}
    changed = value if len(path) == 1 else set_path(inner, path[1:], value)
    return {**target, path[0]: changed}
