"""The line from end to end: one cache for all its tests, so that it downloads once."""

import os
from pathlib import Path

import pytest

from edgekit_sim.demo.line import cache_folder


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a user in an empty folder, with the caches of this one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGEKIT_")}
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    downloads = cache_folder()
    for name, target in (("cache", downloads), ("locks", downloads / "locks")):
        target.mkdir(parents=True, exist_ok=True)
        (workspace / name).symlink_to(target)
    return {**kept, "EDGEKIT_WORKSPACE": str(workspace)}
