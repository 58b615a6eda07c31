"""YAML with the line of every value, and without what surprises: doubled keys, alias bombs."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edgekit.errors import ManifestError

MOST_BYTES = 1024 * 1024
MOST_VALUES = 100_000
DEEPEST = 40

_VARIABLE = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True)
class Source:
    """A YAML file that was read.

    Attributes:
        name: how it is called in messages.
        data: its content as plain data.
        root: its nodes, which know their lines.
    """

    name: str
    data: Any
    root: yaml.Node

    def place(self, path: Sequence[str | int]) -> str:
        """`file.yaml:LINE: a.b.c` of the value at `path`, or of its nearest parent."""
        node = self.root
        for key in path:
            child = _child(node, key)
            if child is None:
                break
            node = child
        dotted = ".".join(map(str, path))
        where = f"{self.name}:{node.start_mark.line + 1}"
        return f"{where}: {dotted}" if dotted else where


def _child(node: yaml.Node, key: str | int) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == str(key):
                # a nested block starts under its key, which is the line people look for
                return value if isinstance(value, yaml.ScalarNode) else _at(value, name)
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        child = node.value[key]
        assert isinstance(child, yaml.Node)
        return child
    return None


def _at(node: yaml.Node, key: yaml.Node) -> yaml.Node:
    kind = type(node)
    moved = kind(node.tag, node.value, start_mark=key.start_mark, end_mark=node.end_mark)
    assert isinstance(moved, yaml.Node)
    return moved


def read_source(path: Path) -> Source:
    """Read a YAML file.

    Raises:
        ManifestError: it cannot be read, is no YAML, is too large or too deep, or has a key twice.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"cannot read {path}: {error.strerror}") from error
    if len(raw) > MOST_BYTES:
        raise ManifestError(f"{path} is longer than {MOST_BYTES} bytes")
    return parse_source(raw, str(path))


def parse_source(raw: bytes, name: str) -> Source:
    """Parse YAML that calls itself `name`; the same errors as `read_source`."""
    try:
        root = yaml.compose(raw, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ManifestError(f"{name}{line}: no YAML: {error.problem}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"{name} is no YAML ({type(error).__name__})") from error
    if root is None:
        raise ManifestError(f"{name} is empty")
    _walk(root, name)
    loader = yaml.SafeLoader(b"")
    try:
        data = loader.construct_document(root)
    except (yaml.YAMLError, ValueError) as error:
        reason = getattr(error, "problem", None) or str(error)
        raise ManifestError(f"{name}: {reason}") from error
    finally:
        loader.dispose()
    return Source(name, data, root)


def _walk(root: yaml.Node, name: str) -> None:
    """Refuse doubled keys, and documents that aliases blow up beyond all measure."""
    waiting = [(root, 0)]
    seen = 0
    while waiting:
        node, depth = waiting.pop()
        seen += 1
        line = node.start_mark.line + 1
        if depth > DEEPEST or seen > MOST_VALUES:
            raise ManifestError(f"{name}:{line}: too deep or too many values")
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                if key.value == "<<" and key.tag.endswith(":merge"):
                    pass
                elif not isinstance(key, yaml.ScalarNode):
                    raise ManifestError(f"{name}:{line}: a key is text")
                elif key.value in keys:
                    at = key.start_mark.line + 1
                    raise ManifestError(
                        f"{name}:{at}: {key.value!r} is there twice", "remove or rename one"
                    )
                keys.add(str(key.value))
                waiting.append((value, depth + 1))
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend((child, depth + 1) for child in node.value)


def substitute(text: str) -> str:
    """Put the environment's values in the place of `${env:NAME}`.

    Raises:
        ManifestError: a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        try:
            return os.environ[match[1]]
        except KeyError:
            raise ManifestError(
                f"environment variable {match[1]} is not set", f"export {match[1]}=..."
            ) from None

    return _VARIABLE.sub(value, text)
