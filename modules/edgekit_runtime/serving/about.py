"""`model.json`, which stands beside a model and says what it is called."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit_runtime.errors import ModelError

ABOUT = "model.json"


def read_about(
    path: Path, remedy: str, needed: Sequence[str] = ("name", "version")
) -> dict[str, Any]:
    """What the file says.

    Args:
        path: of the file.
        remedy: what to do where it is not as it must be.
        needed: keys that it must have.

    Raises:
        ModelError: it is missing or no JSON object, or lacks a key.
    """
    try:
        about = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path} does not open: {error.strerror}", remedy) from error
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}", remedy) from error
    if not isinstance(about, dict):
        raise ModelError(f"{path} is no JSON object", remedy)
    if missing := [name for name in needed if not about.get(name)]:
        raise ModelError(f"{path} has no {' and no '.join(missing)}", remedy)
    return about
