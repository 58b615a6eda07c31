"""Build and push an image: edgekit beside `docker build` and `docker push`, on the same content.

    python benchmarks/images.py [--model-mb 14] [--runs 3] [--json]

Both put Debian's Python, the wheels, edgekit's runtime and a model into one image (linux/amd64) and
push it to a registry on this machine. Everything that is downloaded is there before the clock
starts. A figure is the wall time of whole commands, the least of `--runs`. Docker starts from the
same base layer as an image of the same registry, and copies the same files; its layer cache holds
what its own earlier builds left.

Needs a Docker engine, docker-registry and, the first time, Debian's mirror and pip's index.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.oci.blobs import Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.descriptor import Platform
from edgekit.oci.image import NamedLayer, Settings, put_image
from edgekit.oci.layer import Layer
from edgekit.oci.reference import Reference
from edgekit.oci.transfer import Image, pull, push
from edgekit.oci.unpack import unpack
from edgekit.registry import Registry
from edgekit.workspace import Workspace

AMD64 = Platform("linux", "amd64")
STEPS = ("first build, warm caches", "nothing changed", "another model")


@dataclass
class Figures:
    """Seconds of each step for one tool, and the bytes that went where the tool tells them."""

    tool: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    uploaded: dict[str, int] = field(default_factory=dict)
    model_layer: int = 0

    def add(self, step: str, seconds: float) -> None:
        """Another run of a step."""
        self.seconds.setdefault(step, []).append(seconds)

    def best(self, step: str) -> float:
        """The least of the runs."""
        return min(self.seconds[step])


def run(*command: str, env: Mapping[str, str] | None = None) -> str:
    """Run a command and return its output; its error ends the benchmark."""
    answer = subprocess.run(
        command, capture_output=True, text=True, env=env, timeout=900, check=False
    )
    if answer.returncode:
        sys.exit(f"{' '.join(command[:4])}: {answer.stderr.strip()[-500:]}")
    return answer.stdout


@contextmanager
def docker_registry(folder: Path) -> Iterator[str]:
    """Debian's docker-registry on a free port of this machine."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = folder / "registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{address}', secret: bench}}\n"
        f"storage: {{filesystem: {{rootdirectory: '{folder / 'registry'}'}}}}\n"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _attempt in range(100):
            try:
                httpx.get(f"http://{address}/v2/")
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield address
    finally:
        process.kill()
        process.wait()


def write_model(path: Path, megabytes: float, seed: int) -> None:
    """A model of about that size, with float32 weights as a trained one has them."""
    rng = np.random.default_rng(seed)
    width = int(megabytes * 1e6 / 4 / 64)
    weights = rng.normal(0, 0.05, (64, width)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "bench",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", width])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)


class Edgekit:
    """The command as a user has it, over a workspace of its own."""

    def __init__(self, folder: Path, address: str, megabytes: float, downloads: Path) -> None:
        self.folder, self.address, self.megabytes = folder, address, megabytes
        self.workspace = Workspace.create(folder / "workspace")
        self.environment = {**os.environ, "EDGEKIT_WORKSPACE": str(self.workspace.folder)}
        for name in ("cache", "locks"):
            if (downloads / name).exists():
                shutil.copytree(downloads / name, self.workspace.folder / name, dirs_exist_ok=True)
        self.versions = 0

    def register(self) -> Path:
        """Another version of the model; not part of any figure."""
        self.versions += 1
        path = self.folder / f"model-{self.versions}.onnx"
        write_model(path, self.megabytes, self.versions)
        Registry.open(self.workspace).register(path, "bench")
        return path

    def build(self, tag: str) -> tuple[float, dict[str, Any]]:
        """Build the newest version and push it; seconds and what the command says."""
        began = time.perf_counter()
        said = run(
            *(sys.executable, "-m", "edgekit", "image", "build", "bench", "--json"),
            *("--platform", "linux/amd64", "--push", f"{self.address}/edgekit:{tag}"),
            env=self.environment,
        )
        return time.perf_counter() - began, json.loads(said)

    def forget_layers(self) -> None:
        """Leave the downloads, drop everything made of them."""
        for name in ("layers", "oci"):
            shutil.rmtree(self.workspace.cache / name, ignore_errors=True)


def measure_edgekit(kit: Edgekit, runs: int) -> Figures:
    """All steps with our command."""
    figures = Figures("edgekit")
    first, nothing, another = STEPS
    for number in range(runs):
        kit.forget_layers()
        # a repository that has nothing yet
        kit.address = f"{kit.address.partition('/')[0]}/run{number}"
        seconds, said = kit.build("1")
        figures.add(first, seconds)
        figures.uploaded[first] = said["bytes_uploaded"]
        seconds, said = kit.build("1")
        figures.add(nothing, seconds)
        figures.uploaded[nothing] = said["bytes_uploaded"]
        kit.register()
        seconds, said = kit.build("2")
        figures.add(another, seconds)
        figures.uploaded[another] = said["bytes_uploaded"]
        figures.model_layer = next(
            layer["size"] for layer in said["layers"] if layer["name"] == "model"
        )
    return figures


def docker_context(kit: Edgekit, folder: Path) -> None:
    """The same content for a Dockerfile: the base as an image, the rest as files."""
    reference = Reference.parse(f"{kit.address}/edgekit:2")
    blobs = Blobs(folder / "blobs")
    image = pull(reference, blobs, AMD64)
    base = image.manifest.layers[0]
    diff_id = json.loads(blobs.read(image.manifest.config))["rootfs"]["diff_ids"][0]
    alone = put_image(blobs, AMD64, Settings(), [NamedLayer(Layer(base, diff_id), "base")])
    where = Reference.parse(f"{kit.address}/base:1")
    with RegistryClient(where) as client:
        push(blobs, alone, where, client)
    _unpack_rest(image, folder / "root")
    context = folder / "context"
    for name in ("lib", "runtime", "model"):
        shutil.copytree(folder / "root" / "opt" / "edgekit" / name, context / name)
    (context / "Dockerfile").write_text(
        f"FROM {where}\n"
        "COPY lib /opt/edgekit/lib\nCOPY runtime /opt/edgekit/runtime\n"
        "COPY model /opt/edgekit/model\n"
        'ENTRYPOINT ["/usr/bin/python3", "-m", "edgekit_runtime"]\nCMD ["scorer"]\n'
    )
    run("docker", "pull", "--quiet", str(where))


def _unpack_rest(image: Image, folder: Path) -> None:
    unpack(image, folder)


def measure_docker(docker: str, buildkit: bool, kit: Edgekit, folder: Path, runs: int) -> Figures:
    """All steps with `docker build` and `docker push`."""
    figures = Figures(f"docker, BuildKit {'on' if buildkit else 'off'}")
    environment = {**os.environ, "DOCKER_BUILDKIT": "1" if buildkit else "0"}
    first, nothing, another = STEPS
    registry = kit.address.partition("/")[0]

    def build(name: str, *options: str) -> float:
        began = time.perf_counter()
        run(docker, "build", "--quiet", *options, "--tag", name, str(folder), env=environment)
        run(docker, "push", "--quiet", name, env=environment)
        return time.perf_counter() - began

    for number in range(runs):
        name = f"{registry}/docker{int(buildkit)}-{number}"
        figures.add(first, build(f"{name}:1", "--no-cache"))
        figures.add(nothing, build(f"{name}:1"))
        write_model(folder / "model" / "model.onnx", kit.megabytes, 1000 + 10 * number + buildkit)
        figures.add(another, build(f"{name}:2"))
        run(docker, "image", "rm", "--force", f"{name}:1", f"{name}:2")
    return figures


def buildkit_docker() -> str | None:
    """A docker command whose BuildKit works, if any of those on the PATH has one."""
    for folder in os.environ.get("PATH", "").split(":"):
        program = Path(folder) / "docker"
        if not os.access(program, os.X_OK):
            continue
        with tempfile.TemporaryDirectory() as context:
            (Path(context) / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
            answer = subprocess.run(
                [str(program), "build", "--quiet", context],
                capture_output=True,
                env={**os.environ, "DOCKER_BUILDKIT": "1"},
                timeout=120,
                check=False,
            )
        if answer.returncode == 0:
            return str(program)
    return None


def report(all_figures: list[Figures], as_json: bool, megabytes: float) -> None:
    """Print the figures, and how many times faster ours are."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f}"
    if as_json:
        value = {
            "machine": machine,
            "model_mb": megabytes,
            "tools": [vars(figures) for figures in all_figures],
        }
        print(json.dumps(value, indent=2))
        return
    print(f"Build and push, linux/amd64, a model of {megabytes} MB; {machine}\n")
    print(f"{'':28}" + "".join(f"{figures.tool:>22}" for figures in all_figures))
    ours = all_figures[0]
    for step in STEPS:
        cells = [f"{figures.best(step):.2f} s" for figures in all_figures]
        for number, figures in enumerate(all_figures[1:], 1):
            cells[number] += f" ({figures.best(step) / ours.best(step):.0f}x)"
        print(f"{step:28}" + "".join(f"{cell:>22}" for cell in cells))
    print("\nUploaded by edgekit, bytes:")
    for step in STEPS:
        print(f"  {step:26}{ours.uploaded[step]:>14,}")
    print(f"  {'(the model layer has':26}{ours.model_layer:>14,})")


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model-mb", type=float, default=14, help="size of the model")
    parser.add_argument("--runs", type=int, default=3, help="runs of each step; the least counts")
    parser.add_argument("--cache", type=Path, help="a workspace whose downloads and locks to use")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as name:
        folder = Path(name)
        with docker_registry(folder) as address:
            kit = Edgekit(folder, address, arguments.model_mb, arguments.cache or folder / "none")
            kit.register()
            kit.build("warm")
            figures = [measure_edgekit(kit, arguments.runs)]
            docker_context(kit, folder)
            context = folder / "context"
            measured: list[Callable[[], Figures]] = [
                lambda: measure_docker("docker", False, kit, context, arguments.runs)
            ]
            if (program := buildkit_docker()) is not None:
                found = program
                measured.append(lambda: measure_docker(found, True, kit, context, arguments.runs))
            figures += [each() for each in measured]
    report(figures, arguments.json, arguments.model_mb)


if __name__ == "__main__":
    main()
