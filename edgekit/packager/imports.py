"""Finds what a scoring script imports and no wheel of its image has, without running the script."""

import sys
import zipfile
from pathlib import Path

from edgekit.errors import ImageError
from edgekit.packager.base import DebianBase
from edgekit.packager.plan import ImagePlan
from edgekit.packager.recipes import Files
from edgekit.packager.store import Progress, Store
from edgekit.packager.wheels import WheelLayer
from edgekit.registry.scorefile import imported

_OURS = frozenset({"edgekit_runtime"})


def check_imports(
    plan: ImagePlan, score: Path, store: Store, progress: Progress | None = None
) -> None:
    """Hold that each package that `score` imports at its top level will be in the image.

    An image on a base from a registry may have packages that nobody here knows of, and is not
    checked.

    Args:
        plan: of the image, with the script.
        score: the script, which is Python.
        store: has the wheels; takes those that it lacks.
        progress: told of what is fetched.

    Raises:
        ImageError: one is missing; says which and where it is imported.
        Unreachable, Corrupt: a wheel cannot be fetched.
    """
    wanted = imported(score)
    for platform in plan.platforms:
        if not any(isinstance(recipe, DebianBase) for recipe in platform.recipes):
            continue
        there = set(sys.stdlib_module_names) | _OURS
        for recipe in platform.recipes:
            if isinstance(recipe, WheelLayer):
                recipe.prepare(store, progress)
                for wheel in recipe.wheels:
                    there |= _packages(wheel.path(store))
            elif isinstance(recipe, Files) and recipe.name == "app":
                there |= {Path(path).stem for path, _file, _digest in recipe.files}
        missing = {name: line for name, line in wanted.items() if name not in there}
        if missing:
            name, line = min(missing.items(), key=lambda each: each[1])
            raise ImageError(
                f"score.py imports {name} (line {line}), which nothing in the image for "
                f"{platform.platform} has",
                f"name what has {name} in a requirements.txt: --requirements requirements.txt",
            )


def _packages(wheel: Path) -> set[str]:
    """The top-level names that can be imported from a wheel."""
    found = set()
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            first, slash, _rest = name.partition("/")
            if (not slash and name.endswith((".py", ".so"))) or (slash and "." not in first):
                found.add(first.partition(".")[0])
            elif first.endswith(".data") and name.count("/") > 1:
                found.add(name.split("/")[2].partition(".")[0])
    return found
