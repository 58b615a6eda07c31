"""Whether a score script will find what it imports: read from its source, nothing is run."""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from edgekit.errors import ImageError
from edgekit.oci.blobs import Blobs
from edgekit.oci.layer import Layer
from edgekit.oci.unpack import open_layer
from edgekit.packager.store import Store
from edgekit.packager.wheels import LIB

# where Python looks: our wheels, and what a base has installed
_PLACES = re.compile(rf"(?:\./)?(?:{LIB}|.*/(?:site|dist)-packages)/([^/.]+)")


def imported(score: Path) -> set[str]:
    """The modules that a script imports whenever it is imported itself, by their first names.

    Imports inside functions and `try` may fail, and whoever wrote them knows.
    """
    found: set[str] = set()
    for node in _always(ast.parse(score.read_bytes()).body):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def _always(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported, those of classes and `with` too."""
    for statement in statements:
        yield statement
        if isinstance(statement, ast.With | ast.ClassDef):
            yield from _always(statement.body)


def check_imports(score: Path, layers: Iterable[Layer], store: Store, platform: str) -> None:
    """Refuse a script that imports what no layer brings.

    Args:
        score: the script.
        layers: that bring modules: of wheels, and of a base from a registry.
        store: has the layers, and keeps what was found in them.
        platform: of the image, for the message.

    Raises:
        ImageError: it names the modules that are missing.
    """
    there = {"edgekit_runtime", score.stem, *sys.stdlib_module_names}
    for layer in layers:
        there |= _brought(layer, store)
    missing = sorted(imported(score) - there)
    if missing:
        raise ImageError(
            f"score.py imports {', '.join(missing)}, which the image for {platform} does not have",
            "name what brings it in --requirements",
        )


def _brought(layer: Layer, store: Store) -> set[str]:
    """The modules and packages that a layer brings, by their first names."""
    key = layer.descriptor.digest.removeprefix("sha256:")
    kept = store.read_record("modules", key)
    if kept is None or not isinstance(kept.get("modules"), list):
        kept = {"modules": sorted(_modules(layer, store.blobs))}
        store.write_record("modules", key, kept)
    return {str(name) for name in kept["modules"]}


def _modules(layer: Layer, blobs: Blobs) -> set[str]:
    found = set()
    with open_layer(blobs, layer.descriptor) as archive:
        for member in archive:
            # numpy, six.py, _cffi_backend.cpython-311-x86_64-linux-gnu.so
            if inside := _PLACES.match(member.name):
                found.add(inside[1])
    return found
