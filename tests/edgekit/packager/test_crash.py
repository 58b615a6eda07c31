"""A build or a push that is killed at any point harms nothing, and the next one finishes it."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys

import pytest

from edgekit.oci.blobs import Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.reference import Reference
from edgekit.oci.transfer import pull
from edgekit.packager.image import build_image
from edgekit.packager.plan import DEFAULT_PLATFORMS, plan_image
from edgekit.packager.store import sweep_unfinished
from edgekit.registry import ModelRef, Registry
from edgekit.workspace import Workspace
from edgekit_sim.ociregistry import Registry as OciRegistry

from .conftest import copy_store

# `make soak` asks for 200
POINTS = int(os.environ.get("EDGEKIT_TEST_KILLS", "12"))
MODELS = 3

# Forks a child for each line on its standard input: "SEED MODEL DIGEST FILE TAG". The child builds
# the model's image, pushes it and records it; with a seed it kills itself before or after the N-th
# call, in whatever thread, that may change something outside the process. It prints the digest.
_PROGRAM = """
import os, random, signal, sys, threading
from pathlib import Path
from edgekit.oci import upload
from edgekit.oci.client import RegistryClient
from edgekit.oci.reference import Reference
from edgekit.oci.transfer import push
from edgekit.packager.image import build_image
from edgekit.packager.plan import plan_image
from edgekit.packager.recipes import PackagedModel
from edgekit.packager.store import Store
from edgekit.registry import ModelRef, Registry, migrations
from edgekit.workspace import Workspace

cache, locks, workspace, address = sys.argv[1:]
store = Store(Path(cache), Path(locks))
upload.UPLOAD_CHUNK = 100_000  # so that the model goes up in pieces
CALLS = {"execute", "commit", "replace", "rename", "unlink", "remove", "fsync", "open", "write",
         "close", "chmod", "mkdir", "send", "sendall", "recv", "update", "mkstemp"}

def killed_at(point, event):
    left = point
    def count(frame, kind, function):
        nonlocal left
        if kind == event and getattr(function, "__name__", "") in CALLS:
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
    threading.setprofile(count)
    sys.setprofile(count)

def work(seed, version, digest, file, tag):
    if seed:
        draw = random.Random(seed)
        reach = draw.choice([60, 600, 1800])
        killed_at(draw.randint(1, reach), draw.choice(["c_call", "c_return"]))
    model = PackagedModel(
        "digits", version, digest, Path(file), ({"name": "x", "shape": [None, 64]},)
    )
    built = build_image(plan_image(model, store), store)
    target = Reference.parse(f"{address}/edge/digits:{tag}")
    with RegistryClient(target) as client:
        push(built.blobs, built.root, target, client)
    Registry.open(Workspace(Path(workspace))).record_image(
        model=ModelRef("digits", version), digest=built.digest, reference=str(target),
        platforms=[str(each) for each in built.platforms])
    print(built.digest, flush=True)

for line in sys.stdin:
    seed, version, digest, file, tag = line.split()
    child = os.fork()
    if not child:
        work(int(seed), int(version), digest, file, tag)
        sys.setprofile(None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status), flush=True)
"""


class Killer:
    """The program above, and what it is told."""

    def __init__(self, store, workspace, address):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _PROGRAM,
             store.cache, store.locks, workspace.folder, address],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, packaged, tag, seed=0):
        """The digest it printed, empty where it came to none; and how it ended."""
        line = f"{seed} {packaged.version} {packaged.digest} {packaged.file} {tag}\n"
        self.process.stdin.write(line)
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if answer.startswith("sha256:"):
            return answer, int(self.process.stdout.readline())
        return "", int(answer)


@pytest.mark.timeout(60 + 5 * POINTS)
def test_kill_at_random_points(store, model, tmp_path):
    seed = int(os.environ.get("EDGEKIT_TEST_SEED", random.SystemRandom().randrange(1, 2**31)))
    content = [random.Random(number).randbytes(300_000) for number in range(MODELS)]
    models = [model(content[number], number + 1) for number in range(MODELS)]
    other = copy_store(store, tmp_path / "other")
    expected = [build_image(plan_image(each, other), other).digest for each in models]
    workspace = Workspace.create(tmp_path / "workspace")
    registry = Registry.open(workspace)
    for each in models:
        registry.register(each.path, "digits", framework="bytes")
    killed = 0
    with OciRegistry(tmp_path / "registry") as served:
        killer = Killer(store, workspace, served.address)
        with killer.process:
            for point in range(POINTS):
                draw = random.Random(seed + point)
                packaged, wanted = draw.choice(list(zip(models, expected, strict=True)))
                if draw.random() < 0.5:
                    shutil.rmtree(store.cache / draw.choice(["layers", "oci"]), ignore_errors=True)
                tag = f"{point}" if draw.random() < 0.7 else "moving"
                told = f"EDGEKIT_TEST_SEED={seed + point}"
                digest, ended = killer.run(packaged, tag, seed + point)
                assert ended in (0, -signal.SIGKILL, signal.SIGKILL), told
                killed += ended != 0
                assert digest in ("", wanted), told
                hold(store, registry, served.address, tag, expected, tmp_path / "pulled")

                digest, ended = killer.run(packaged, tag)
                assert (digest, ended) == (wanted, 0), told
                assert pulled(served.address, tag, tmp_path / "pulled") == wanted, told
            killer.process.stdin.close()
    assert killed > POINTS / 3
    assert {record.digest for record in registry.images()} <= set(expected)


def hold(store, registry, address, tag, expected, folder):
    """Whatever has its name is whole; whatever has a tag or a record can be pulled."""
    for path in (store.cache / "oci" / "blobs" / "sha256").glob("[0-9a-f]*"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    sweep_unfinished(store, older_than=0)
    assert not list(store.cache.rglob(".partial-*"))
    assert pulled(address, tag, folder) in ("", *expected)
    for record in registry.images()[-1:]:
        assert record.model in {ModelRef("digits", number + 1) for number in range(MODELS)}
        assert pulled(address, record.reference.rpartition(":")[2], folder) in expected


def pulled(address, tag, folder):
    """Pull both platforms into an empty folder; the digest of the tag, or nothing for no tag."""
    shutil.rmtree(folder, ignore_errors=True)
    reference = Reference.parse(f"{address}/edge/digits:{tag}")
    with RegistryClient(reference) as client:
        digest = client.manifest_digest(reference.name, tag)
        for platform in DEFAULT_PLATFORMS if digest else ():
            pull(reference.at(digest), Blobs(folder), platform, client)
    return digest
