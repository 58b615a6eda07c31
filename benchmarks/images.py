"""Build and push an image: edgekit beside `docker build` and `docker push`, on the same content.

    python benchmarks/images.py [--model-mb 14,100] [--runs 3] [--json]

Both put Debian's Python, the wheels, edgekit's runtime and a model into one image (linux/amd64) and
push it to a registry on this machine. edgekit is measured twice: as it starts by itself, and in
forks of its warm server (`edgekit warm start`), which as Docker's engine runs before the clock
starts. Everything that is downloaded is there by then. Docker starts from the same base layer as an
image of the same registry, and copies the same files; its layer cache holds what its own earlier
builds left.

A figure is the wall time of whole commands, the least of `--runs`; under it the processor seconds
of the command and of its server or engine, which other work on the machine disturbs less. The
registry's own work is not among these, but whoever pushes waits for it. edgekit's command runs from
byte code, as an installed one does.

Needs a Docker engine, docker-registry and, the first time, Debian's mirror and pip's index.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
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
ENGINE = ("dockerd", "containerd")


@dataclass
class Figures:
    """Seconds of each step for one tool, and the bytes that went where the tool tells them."""

    tool: str
    server: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    processor: dict[str, list[float]] = field(default_factory=dict)
    uploaded: dict[str, int] = field(default_factory=dict)
    model_layer: int = 0

    @contextmanager
    def run(self, step: str) -> Iterator[None]:
        """Measure a run of a step."""
        wall, processor = time.perf_counter(), processor_seconds(self.server)
        yield
        self.seconds.setdefault(step, []).append(time.perf_counter() - wall)
        self.processor.setdefault(step, []).append(processor_seconds(self.server) - processor)

    def best(self, step: str) -> float:
        """The least of the runs."""
        return min(self.seconds[step])

    def cpu(self, step: str) -> float:
        """The least processor seconds of the runs."""
        return min(self.processor[step])


def processor_seconds(server: int) -> float:
    """What the commands that ended so far have taken of the processors, and who works for them.

    That is Docker's engine, or the process `server` with its forks that have ended.
    """
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = used.ru_utime + used.ru_stime
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name, _, rest = (entry / "stat").read_text().rpartition(") ")
        except OSError:  # it has ended
            continue
        if name.rpartition("(")[2] in ENGINE or entry.name == str(server):
            # its own user and system time, then that of its children
            ticks = rest.split()[11 : 15 if entry.name == str(server) else 13]
            total += sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return total


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
        self.environment = {
            **os.environ,
            "EDGEKIT_WORKSPACE": str(self.workspace.folder),
            "EDGEKIT_WARM": "0",
            "XDG_RUNTIME_DIR": str(folder),
        }
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
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

    def build(self, tag: str) -> dict[str, Any]:
        """Build the newest version and push it; what the command says."""
        said = run(
            *(sys.executable, "-m", "edgekit", "image", "build", "bench", "--json"),
            *("--platform", "linux/amd64", "--push", f"{self.address}/edgekit:{tag}"),
            env=self.environment,
        )
        return dict(json.loads(said))

    @contextmanager
    def warm(self) -> Iterator[int]:
        """A warm server that runs the commands of the block; its process."""
        command = (sys.executable, "-m", "edgekit", "warm")
        run(*command, "start", env=self.environment)
        self.environment["EDGEKIT_WARM"] = "10"
        try:
            status = json.loads(run(*command, "status", "--json", env=self.environment))
            assert status["takes_commands"]
            yield status["process"]
        finally:
            self.environment["EDGEKIT_WARM"] = "0"
            run(*command, "stop", env=self.environment)

    def forget_layers(self) -> None:
        """Leave the downloads, drop everything made of them."""
        for name in ("layers", "oci"):
            shutil.rmtree(self.workspace.cache / name, ignore_errors=True)


def measure_edgekit(kit: Edgekit, runs: int, figures: Figures) -> Figures:
    """All steps with our command."""
    first, nothing, another = STEPS
    for number in range(runs):
        kit.forget_layers()
        # a repository that has nothing yet
        kit.address = f"{kit.address.partition('/')[0]}/run{number}{'w' * bool(figures.server)}"
        with figures.run(first):
            said = kit.build("1")
        figures.uploaded[first] = said["bytes_uploaded"]
        with figures.run(nothing):
            said = kit.build("1")
        figures.uploaded[nothing] = said["bytes_uploaded"]
        kit.register()
        with figures.run(another):
            said = kit.build("2")
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

    def build(step: str, name: str, *options: str) -> None:
        with figures.run(step):
            run(docker, "build", "--quiet", *options, "--tag", name, str(folder), env=environment)
            run(docker, "push", "--quiet", name, env=environment)

    for number in range(runs):
        name = f"{registry}/docker{int(buildkit)}-{number}"
        build(first, f"{name}:1", "--no-cache")
        build(nothing, f"{name}:1")
        write_model(folder / "model" / "model.onnx", kit.megabytes, 1000 + 10 * number + buildkit)
        build(another, f"{name}:2")
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


def machine() -> str:
    """What the figures were measured on."""
    return f"{os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f}"


def report(all_figures: list[Figures], megabytes: float) -> None:
    """Print the figures, and how many times those of ours Docker's are."""
    print(f"Build and push, linux/amd64, a model of {megabytes:g} MB; {machine()}\n")
    print(f"{'':34}" + "".join(f"{figures.tool:>24}" for figures in all_figures))
    for step in STEPS:
        _row(step, [figures.best(step) for figures in all_figures])
        _row("  processor", [figures.cpu(step) for figures in all_figures])
    ours = all_figures[0]
    print("\n(in brackets: how many times edgekit's, as it starts and warm)")
    print("\nUploaded by edgekit, bytes:")
    for step in STEPS:
        print(f"  {step:26}{ours.uploaded[step]:>14,}")
    print(f"  {'(the model layer has':26}{ours.model_layer:>14,})\n")


def _row(label: str, seconds: list[float]) -> None:
    cold, warm, *others = seconds
    cells = [f"{cold:.2f} s", f"{warm:.2f} s"]
    cells += [f"{each:.2f} s ({each / cold:.1f}x {each / warm:.1f}x)" for each in others]
    print(f"{label:34}" + "".join(f"{cell:>24}" for cell in cells))


def measure(megabytes: float, runs: int, downloads: Path | None) -> list[Figures]:
    """All tools' figures for a model of a size, each with a registry that has nothing yet."""
    with tempfile.TemporaryDirectory(prefix="edgekit-bench-") as name:
        folder = Path(name)
        with docker_registry(folder) as address:
            kit = Edgekit(folder, address, megabytes, downloads or folder / "none")
            kit.register()
            kit.build("warm")
            figures = [measure_edgekit(kit, runs, Figures("edgekit"))]
            with kit.warm() as server:
                figures.append(measure_edgekit(kit, runs, Figures("edgekit, warm", server)))
            docker_context(kit, folder)
            context = folder / "context"
            figures.append(measure_docker("docker", False, kit, context, runs))
            if (program := buildkit_docker()) is not None:
                figures.append(measure_docker(program, True, kit, context, runs))
            run("docker", "image", "rm", "--force", f"{kit.address}/base:1")
    return figures


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model-mb", default="14,100", help="sizes of the model")
    parser.add_argument("--runs", type=int, default=3, help="runs of each step; the least counts")
    parser.add_argument("--cache", type=Path, help="a workspace whose downloads and locks to use")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    sizes = [float(text) for text in arguments.model_mb.split(",")]
    found = []
    for megabytes in sizes:
        figures = measure(megabytes, arguments.runs, arguments.cache)
        found.append({"model_mb": megabytes, "tools": [vars(each) for each in figures]})
        if not arguments.json:
            report(figures, megabytes)
    if arguments.json:
        print(json.dumps({"machine": machine(), "sizes": found}, indent=2))


if __name__ == "__main__":
    main()
