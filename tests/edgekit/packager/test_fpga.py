"""A registered int8 model becomes an FPGA package the registry keeps."""

from pathlib import Path

import numpy as np
import pytest

from edgekit.errors import InUse
from edgekit.packager.fpga import package_fpga
from edgekit.quantize import quantize
from edgekit.registry import ModelVersion, Registry
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
    assert registry.graphs(model=int8.ref) == [record]
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
