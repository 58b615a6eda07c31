from pathlib import Path

import pytest

from edgekit.registry import Registry
from edgekit.workspace import Workspace

DIGITS = Path(__file__).parents[3] / "examples" / "digits"


@pytest.fixture
def digits() -> Path:
    return DIGITS / "digits.onnx"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.create(tmp_path / "workspace")


@pytest.fixture
def registry(workspace: Workspace) -> Registry:
    return Registry.open(workspace)
