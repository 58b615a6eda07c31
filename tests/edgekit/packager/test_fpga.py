"""A registered int8 model becomes an FPGA package the registry keeps."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli.app import run as command
from edgekit.errors import InUse, ModelError, NotFound
from edgekit.packager.fpga import package_fpga, stored_package
from edgekit.quantize import quantize
from edgekit.registry import ArtefactQuery, ModelVersion, Registry
from edgekit.workspace import Workspace
from edgekit_fpga import read_package
from edgekit_fpga.errors import FpgaError
from edgekit_sim.demo.digits import load


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.open(Workspace.create(tmp_path / "workspace"))


@pytest.fixture
def int8(registry: Registry, tmp_path: Path) -> ModelVersion:
    digits = load()
    with np.load(digits.calibration) as calibration:
        graph = quantize(digits.model.read_bytes(), dict(calibration))
    (tmp_path / "int8.onnx").write_bytes(graph)
    return registry.register(tmp_path / "int8.onnx", "digits-int8")


def test_the_package_is_kept_with_what_it_was_made_from(
    registry: Registry, int8: ModelVersion
) -> None:
    package, record = package_fpga(registry, int8.ref, "ecp5-85f")
    assert (record.model, record.board, record.digest) == (int8.ref, "ecp5-85f", package.digest)
    assert registry.graphs(ArtefactQuery(model=int8.ref)) == [record]
    assert read_package(registry.graph_file(record)).digest == record.digest


def test_a_packaged_version_is_not_deleted(registry: Registry, int8: ModelVersion) -> None:
    _, record = package_fpga(registry, int8.ref, "ecp5-85f")
    with pytest.raises(InUse, match=record.digest[:19]):
        registry.delete(int8.ref)


def test_a_float_model_leaves_nothing_behind(registry: Registry) -> None:
    version = registry.register(load().model, "digits")
    with pytest.raises(FpgaError, match="not quantized"):
        package_fpga(registry, version.ref, "ecp5-85f")
    assert registry.graphs() == []


def test_a_package_is_found_by_its_models_name(registry: Registry, int8: ModelVersion) -> None:
    with pytest.raises(NotFound, match="has no FPGA package"):
        stored_package(registry, "digits-int8")
    package, record = package_fpga(registry, int8.ref, "ecp5-85f")
    for text in ("digits-int8", "digits-int8:1", "digits-int8:latest", "digits-int8:1@ecp5-85f"):
        path, found = stored_package(registry, text)
        assert (read_package(path).digest, found) == (package.digest, record)
    package_fpga(registry, int8.ref, "ecp5-25f")
    with pytest.raises(ModelError, match="compiled for ecp5-25f, ecp5-85f"):
        stored_package(registry, "digits-int8:1")
    assert stored_package(registry, "digits-int8:1@ecp5-85f")[1] == record


def test_the_command_runs_a_registered_package(
    registry: Registry,
    int8: ModelVersion,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    package_fpga(registry, int8.ref, "ecp5-85f")
    monkeypatch.setenv("EDGEKIT_WORKSPACE", str(tmp_path / "workspace"))
    np.savez(tmp_path / "images.npz", image=load().images[:5])
    given = ["--input", str(tmp_path / "images.npz"), "--json"]
    assert command(["fpga", "run", "digits-int8:1", *given]) == 0
    assert json.loads(capsys.readouterr().out)["inferences"] == 5
