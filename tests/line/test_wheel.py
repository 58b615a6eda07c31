"""The wheel, installed into an empty environment outside the checkout, runs the demo."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgekit_sim.demo.digits import load

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_four_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist() if ".dist-info/" not in name}
    assert tops == {"edgekit", "edgekit_fpga", "edgekit_runtime", "edgekit_sim"}


def test_the_wheel_holds_the_digits(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        model = archive.read("edgekit_sim/demo/digits/digits.onnx")
    assert model == load().model.read_bytes()


@pytest.mark.timeout(600)
def test_the_installed_wheel_runs_the_demo(
    wheel: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    place = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    python = str(place / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", f"{wheel}[sim]"], check=True)
    clean = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(place / "bin" / "edgekit"), "demo", "--engine", "process", "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**clean, "PATH": f"{place / 'bin'}{os.pathsep}{clean['PATH']}"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"] is True
