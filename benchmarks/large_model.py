"""Memory that a large model takes: to build its image, push, pull, make and apply a delta.

    python benchmarks/large_model.py [--gb 3] [--cache WORKSPACE]

Each step runs in a process of its own; the figure is the most memory that process had (its resident
set), beside that of a process which only imports what the step imports. The model's file is sparse:
it takes its size in time, not on the disk. Weights that do not compress are stored as they are, so
both ways are measured. The registry is the simulator's, in another process.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STEP = """
import json, resource, sys, time
from pathlib import Path
from edgekit.oci.blobs import Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.deltas import make_delta
from edgekit.oci.descriptor import Descriptor, Platform
from edgekit.oci.image import manifests_of, stored_root
from edgekit.oci.reference import Reference
from edgekit.oci.transfer import pull, push
from edgekit.packager.image import build_image
from edgekit.packager.plan import plan_image
from edgekit.packager.recipes import PackagedModel
from edgekit.packager.store import Store
step, cache, locks, place, folder = sys.argv[1:6]
store, reference, began = Store(Path(cache), Path(locks)), Reference.parse(place), time.monotonic()
platform, said = Platform("linux", "amd64"), ""
def layer(digest):
    root = stored_root(store.blobs, digest)
    return next(iter(manifests_of(store.blobs, root).values())).layers[-1]
if step == "build":
    model = PackagedModel("large", int(sys.argv[8]), sys.argv[7], Path(sys.argv[6]))
    said = build_image(plan_image(model, store, (platform,)), store).digest
elif step == "push":
    with RegistryClient(reference) as client:
        push(store.blobs, stored_root(store.blobs, sys.argv[6]), reference, client)
elif step == "pull":
    with RegistryClient(reference) as client:
        pull(reference, Blobs(Path(folder)), platform, client)
elif step == "delta":
    root = stored_root(store.blobs, sys.argv[7])
    artifact = make_delta(
        store.blobs, layer(sys.argv[6]), store.blobs, layer(sys.argv[7]), root, (1,)
    )
    from edgekit.oci.artifacts import push_artifact
    with RegistryClient(reference) as client:
        push_artifact(store.blobs, artifact, reference.name, client)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"peak": peak, "seconds": time.monotonic() - began, "said": said}))
"""


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """The simulator's registry in a process of its own."""
    command = [sys.executable, "-m", "edgekit_sim.ociregistry", "--port", "0", "--state", folder]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["address"]
        finally:
            process.terminate()


class Site:
    """A workspace's folders, a registry, and a device's folder."""

    def __init__(self, folder: Path, address: str, cache: Path | None) -> None:
        self.folder, self.address = folder, address
        for name in ("cache", "locks"):
            if cache:
                shutil.copytree(cache / name, folder / name, dirs_exist_ok=True)

    def run(self, step: str, label: str, version: int, *arguments: str) -> str:
        """Run a step and print what it took; what it said."""
        place = f"{self.address}/large:{version}"
        command = [sys.executable, "-c", _STEP, step, str(self.folder / "cache")]
        command += [str(self.folder / "locks"), place, str(self.folder / "device"), *arguments]
        answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(answer.stdout)
        print(f"{label:44}{found['peak'] / 1e6:>9.0f} MB{found['seconds']:>9.1f} s", flush=True)
        return str(found["said"])


def write_model(path: Path, size: int, dense: bool, version: int) -> str:
    """A model file with little in it: random where it is looked at, if it is to be dense."""
    with path.open("wb") as file:
        file.truncate(size)
        for number in range(4 if dense else 0):
            file.seek(size * number // 4)
            file.write(os.urandom(128 * 1024))
        file.seek(size // 3)
        file.write(b"version %d" % version)
    from edgekit.oci.layer import file_digest

    return file_digest(path)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--gb", type=float, default=3, help="size of the model")
    parser.add_argument("--cache", type=Path, help="a workspace whose downloads and locks to use")
    arguments = parser.parse_args()
    size = int(arguments.gb * 1e9)
    print(f"A model of {arguments.gb:g} GB{'':26}peak memory{'':5}took")
    for dense in (True, False):
        kind = "stored as it is" if dense else "compressed"
        with tempfile.TemporaryDirectory(prefix="edgekit-large-") as name:
            folder = Path(name)
            with registry(folder / "registry") as address:
                site = Site(folder, address, arguments.cache)
                if dense:
                    site.run("nothing", "only imported", 1)
                digests = []
                for version in (1, 2):
                    path = folder / "model.onnx"
                    digest = write_model(path, size, dense, version)
                    label = f"{kind}: build {version}"
                    digests.append(
                        site.run("build", label, version, str(path), digest, str(version))
                    )
                    site.run("push", f"{kind}: push {version}", version, digests[-1])
                site.run("pull", f"{kind}: pull 1", 1)
                site.run("delta", f"{kind}: delta from 1 to 2", 2, *digests)
                site.run("pull", f"{kind}: pull 2 by delta", 2)


if __name__ == "__main__":
    main()
