"""The difference of two manifests, as data that can be shown and applied."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgekit.errors import ManifestError
from edgekit.manifest.options import MOST_CHUNKS, chunk_name, join_options

Kind = Literal["added", "removed", "changed"]


@dataclass(frozen=True)
class Change:
    """One place where two JSON values differ.

    Attributes:
        kind: `added`, `removed` or `changed`.
        path: the keys that lead there.
        before: the value there, None where it was added.
        after: the value there, None where it was removed.
    """

    kind: Kind
    path: tuple[str, ...]
    before: Any
    after: Any

    @property
    def where(self) -> str:
        """The path with dots, for people."""
        return ".".join(self.path) or "(all)"


def diff(before: Any, after: Any) -> list[Change]:
    """The changes that turn `before` into `after`; objects are compared key by key.

    Args:
        before: JSON data.
        after: JSON data.

    Returns:
        Changes in the order of their paths; empty when the two are equal. Lists and scalars are
        replaced as wholes, and 1, 1.0 and true are three different values.
    """
    return list(_walk((), before, after))


def _walk(path: tuple[str, ...], before: Any, after: Any) -> Iterator[Change]:
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        if not _same(before, after):
            yield Change("changed", path, before, after)
        return
    for key in sorted(before.keys() | after.keys()):
        if key not in after:
            yield Change("removed", (*path, key), before[key], None)
        elif key not in before:
            yield Change("added", (*path, key), None, after[key])
        else:
            yield from _walk((*path, key), before[key], after[key])


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(one == other)


def apply_changes(data: Any, changes: Sequence[Change]) -> Any:
    """A copy of `data` with `changes` made, so that `apply_changes(a, diff(a, b)) == b`."""
    result = copy.deepcopy(data)
    for change in changes:
        value = copy.deepcopy(change.after)
        if not change.path:
            result = value
            continue
        *parents, last = change.path
        place = result
        for key in parents:
            place = place[key]
        if change.kind == "removed":
            del place[last]
        else:
            place[last] = value
    return result


def readable(desired: Any) -> Any:
    """A copy where the pieces of createOptions are joined and parsed, for showing differences."""
    if not isinstance(desired, Mapping):
        return copy.deepcopy(desired)
    result = {key: readable(value) for key, value in desired.items()}
    if isinstance(desired.get("createOptions"), str):
        try:
            options = join_options(desired)
        except ManifestError:
            return result  # no JSON: shown as it stands
        for position in range(MOST_CHUNKS):
            result.pop(chunk_name(position), None)
        result["createOptions"] = options
    return result
