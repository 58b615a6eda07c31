"""FPGA packages that differ in their weights alone, and a scorer that serves them."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from edgekit_fpga import Package, compile_model, run
from tests.edgekit_fpga.graphs import small_net


@dataclass(frozen=True)
class Versions:
    """Versions 1 and 2 of one model, as packages."""

    packages: dict[str, Package]
    image: Any
    answers: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        answers = {
            version: run(package, {"x": self.image})["y"]
            for version, package in self.packages.items()
        }
        object.__setattr__(self, "answers", answers)

    def gives(self, version: str, values: Any) -> bool:
        """Whether these are the values of a version's answer, every one of them."""
        expected = self.answers[version].ravel()
        return bool(np.array_equal(np.array(values, expected.dtype).ravel(), expected))

    def install(self, folder: Path, version: str, name: str = "net") -> None:
        """Put a version into a folder as the packager does: package first, then what it is."""
        folder.mkdir(exist_ok=True)
        package = self.packages[version]
        package.save(folder / "model.npu")
        about = {"name": name, "version": int(version), "digest": package.digest}
        (folder / "model.json.new").write_text(json.dumps(about))
        (folder / "model.json.new").rename(folder / "model.json")


@pytest.fixture(scope="session")
def versions() -> Versions:
    image = np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)
    made = Versions({"1": compile_model(small_net(0)), "2": compile_model(small_net(1))}, image)
    assert made.answers["1"].tolist() != made.answers["2"].tolist()
    return made


@dataclass(frozen=True)
class Served:
    """A running scorer."""

    process: subprocess.Popen[bytes]
    folder: Path
    host: str
    http: httpx.Client

    @property
    def grpc(self) -> str:
        """Where it speaks gRPC."""
        return f"{self.host}:8081"


Start = Callable[..., AbstractContextManager[Served]]


@pytest.fixture
def start(tmp_path: Path, loopback: str, program: Any, until: Any, versions: Versions) -> Start:
    """Starts a scorer on version 1 of `net`, with more settings where they are given."""

    @contextmanager
    def start(**settings: str) -> Iterator[Served]:
        folder = tmp_path / "model"
        if not folder.exists():
            versions.install(folder, "1")
        environment = {
            "EDGEKIT_MODEL": str(folder),
            "EDGEKIT_BIND": loopback,
            "EDGEKIT_GRPC_PORT": "8081",
            **settings,
        }
        with (
            program("edgekit_runtime", "fpga-scorer", **environment) as process,
            httpx.Client(base_url=f"http://{loopback}:8080", timeout=60) as client,
        ):

            def ready() -> bool:
                assert process.poll() is None, process.stderr.read()
                try:
                    return client.get("/v2/health/ready").status_code == 200
                except httpx.TransportError:
                    return False

            until(ready, 300)
            yield Served(process, folder, loopback, client)

    return start


@pytest.fixture
def served(start: Start) -> Iterator[Served]:
    """A scorer on version 1 of `net`."""
    with start() as served:
        yield served
