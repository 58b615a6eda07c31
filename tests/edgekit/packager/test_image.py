"""Images: the right layers in the right order, made once, the same everywhere."""

import json
import os
import random
import subprocess
import sys
import tarfile
from dataclasses import replace

import pytest

from edgekit.errors import Corrupt, EdgekitError, ImageError
from edgekit.oci.blobs import Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.descriptor import LAYER, Platform
from edgekit.oci.image import NamedLayer, Settings, manifests_of, put_image, put_index
from edgekit.oci.layer import Entry, Layer, write_layer
from edgekit.oci.reference import Reference
from edgekit.oci.transfer import push
from edgekit.packager.image import build_image
from edgekit.packager.plan import plan_image
from edgekit_sim.ociregistry import Registry

from .conftest import config_of, copy_store, layer_file, layer_files

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def build(model, store, **more):
    return build_image(plan_image(model, store, **more), store)


def layer(built, name, platform="linux/amd64"):
    (found,) = [each for each in built.layers if each.name == name and platform in each.platforms]
    return found


def test_layers_stand_from_what_changes_least_to_what_changes_most(store, model, tmp_path):
    (tmp_path / "score.py").write_text("def run(x): return x\n")
    built = build(model(), store, score=tmp_path / "score.py", platforms=(AMD64,))
    assert [each.name for each in built.layers] == ["base", "wheels", "runtime", "app", "model"]


def test_files_are_where_the_architecture_says(store, model, tmp_path):
    (tmp_path / "score.py").write_text("def run(x): return x\n")
    built = build(model(), store, score=tmp_path / "score.py", platforms=(AMD64,))
    found = {path for each in built.layers for path in layer_files(built.blobs, each)}
    assert {
        "usr/bin/python3.11",
        "opt/edgekit/lib/numpy/__init__.py",
        "opt/edgekit/runtime/edgekit_runtime/__init__.py",
        "opt/edgekit/app/score.py",
        "opt/edgekit/model/model.onnx",
        "opt/edgekit/model/model.json",
    } <= found


def test_a_container_starts_as_the_architecture_says(store, model):
    built = build(model(), store)
    for manifest in manifests_of(built.blobs, built.root).values():
        config = config_of(built.blobs, manifest)["config"]
        assert config["Entrypoint"] == ["/usr/bin/python3", "-m", "edgekit_runtime"]
        assert config["Cmd"] == ["scorer"]
        assert "PYTHONPATH=/opt/edgekit/runtime:/opt/edgekit/lib" in config["Env"]
        assert (config["User"], list(config["ExposedPorts"])) == ("1000:1000", ["8080/tcp"])


def test_the_model_says_what_it_is(store, model):
    packaged = model()
    built = build(packaged, store)
    about = json.loads(
        layer_file(built.blobs, layer(built, "model"), "opt/edgekit/model/model.json")
    )
    assert about == {
        "name": "digits",
        "version": 1,
        "digest": packaged.digest,
        "inputs": [{"name": "x", "shape": [None, 64]}],
        "outputs": [],
    }


def test_platforms_share_what_is_the_same(store, model):
    built = build(model(), store)
    assert [str(platform) for platform in built.platforms] == ["linux/amd64", "linux/arm64"]
    shared = {each.name for each in built.layers if len(each.platforms) == 2}
    assert shared == {"runtime", "model"}
    assert layer(built, "base") != layer(built, "base", "linux/arm64")


def test_the_base_is_merged_and_trimmed(store, model):
    built = build(model(), store)
    files = layer_files(built.blobs, layer(built, "base"))
    assert "usr/lib/x86_64-linux-gnu/libc.so.6" in files
    assert files["lib"].linkname == "usr/lib"
    assert "usr/share/doc/libc6/copyright" in files
    assert not [path for path in files if "/man" in path]
    assert files["tmp"].mode == 0o1777
    assert files["var/lib/edgekit"].uid == 1000
    assert "var/lib/dpkg/status.d/libc6" in files


def test_nothing_is_made_twice(store, model):
    first = build(model(), store)
    second = build(model(), store)
    assert second.digest == first.digest
    assert [each.cached for each in second.layers] == [True] * len(second.layers)


def test_another_model_costs_its_layer_alone(store, model):
    before = {each.digest for each in build(model(), store).layers}
    built = build(model(b"better weights", 2), store)
    assert [each.name for each in built.layers if each.digest not in before] == ["model"]


@pytest.mark.parametrize(
    ("content", "media_type"),
    [(bytes(10_000), "tar+gzip"), (random.Random(0).randbytes(10_000), "tar")],
)
def test_a_model_that_does_not_compress_is_stored_as_it_is(store, model, content, media_type):
    built = build(model(content), store, platforms=(AMD64,))
    manifest = manifests_of(built.blobs, built.root)[AMD64]
    assert manifest.layers[-1].media_type == f"application/vnd.oci.image.layer.v1.{media_type}"
    found = layer_file(built.blobs, layer(built, "model"), "opt/edgekit/model/model.onnx")
    assert found == content


def test_the_plan_changes_with_what_goes_in(store, model):
    plan = plan_image(model(), store)
    assert plan_image(model(), store).digest == plan.digest
    others = {
        plan_image(model(b"other"), store).digest,
        plan_image(model(), store, platforms=(ARM64,)).digest,
        plan_image(model(), store, compression="zstd").digest,
    }
    assert len(others | {plan.digest}) == 4


_ELSEWHERE = """
import os, sys
from pathlib import Path
os.umask(int(sys.argv[3], 8))
from edgekit.packager.image import build_image
from edgekit.packager.plan import plan_image
from edgekit.packager.recipes import PackagedModel
from edgekit.packager.store import Store
store = Store(Path(sys.argv[1]) / "cache", Path(sys.argv[1]) / "locks")
file = Path(sys.argv[2])
model = PackagedModel("digits", 1, sys.argv[4], file)
print(build_image(plan_image(model, store), store).digest)
"""


def test_one_digest_on_any_machine(store, model, tmp_path):
    """Two paths, umasks, time zones, locales, hash seeds, file times and orders: one image."""
    digests = set()
    for number, (umask, zone, locale) in enumerate(
        (("000", "Asia/Kathmandu", "C"), ("077", "America/Caracas", "tr_TR.UTF-8"))
    ):
        folder = tmp_path / ("machine" * (number + 1))
        other = copy_store(store, folder)
        for index, path in enumerate(sorted(folder.rglob("*"))):
            os.utime(path, (index * 1000 * (number + 1),) * 2)
        packaged = model()
        file = folder / "model.onnx"
        file.write_bytes(packaged.file.read_bytes())
        file.chmod(0o600 if number else 0o666)
        answer = subprocess.run(
            [sys.executable, "-c", _ELSEWHERE, str(folder), str(file), umask, packaged.digest],
            env=dict(os.environ)
            | {"TZ": zone, "LC_ALL": locale, "PYTHONHASHSEED": str(number), "HOME": str(folder)},
            cwd=other.cache,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert answer.returncode == 0, answer.stderr
        digests.add(answer.stdout)
    assert len(digests) == 1


def test_a_model_that_is_not_the_registered_one(store, model):
    packaged = model()
    plan = plan_image(packaged, store)
    packaged.file.write_bytes(b"tampered")
    with pytest.raises(Corrupt, match=f"is not {packaged.digest}"):
        build_image(plan, store)


def test_a_score_script_that_is_no_python(store, model, tmp_path):
    (tmp_path / "score.py").write_text("def run(:\n")
    with pytest.raises(ImageError, match="is no Python program"):
        plan_image(model(), store, score=tmp_path / "score.py")


def test_a_platform_without_onnxruntime_is_refused_with_those_that_have_it(store, model):
    with pytest.raises(ImageError, match="no base from Debian for linux/riscv64") as error:
        plan_image(model(), store, platforms=(Platform("linux", "riscv64"),))
    assert "linux/amd64, linux/arm64" in error.value.hint


def test_a_lost_layer_is_made_again(store, model):
    built = build(model(), store)
    store.blobs.path(layer(built, "model").digest).unlink()
    again = build(model(), store)
    assert again.digest == built.digest
    assert [each.name for each in again.layers if not each.cached] == ["model"]


def test_a_damaged_lock_is_not_guessed_around(store, model):
    (store.locks / "debian-bookworm.json").write_text("{")
    with pytest.raises(ImageError, match="does not read"):
        plan_image(model(), store)


@pytest.fixture
def registry(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker-config"))
    with Registry(tmp_path / "registry") as registry:
        yield registry.address


def push_base(address, tmp_path, *entries):
    """An image with these files, for both platforms, in a registry; its reference."""
    blobs = Blobs(tmp_path / "base-blobs")
    files = [NamedLayer(write_layer(entries, blobs), "theirs")]
    settings = Settings(environment={"LANG": "C.UTF-8", "PYTHONPATH": "/theirs"})
    root = put_index(blobs, [put_image(blobs, each, settings, files) for each in (AMD64, ARM64)])
    reference = Reference.parse(f"{address}/base:1")
    with RegistryClient(reference) as client:
        push(blobs, root, reference, client)
    return str(reference)


def hostile_base(address, tmp_path, data):
    """An image whose layer is these bytes, in a registry; its reference."""
    blobs = Blobs(tmp_path / "base-blobs")
    descriptor = blobs.put(data, LAYER)
    named = [NamedLayer(Layer(descriptor, descriptor.digest), "theirs")]
    root = put_index(blobs, [put_image(blobs, AMD64, Settings(), named)])
    reference = Reference.parse(f"{address}/base:1")
    with RegistryClient(reference) as client:
        push(blobs, root, reference, client)
    return str(reference)


def header(kind, name, size=0):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header(tarfile.BLKTYPE, "dev/sda"), "'dev/sda', a device"),
        (header(tarfile.REGTYPE, "usr/../../x"), "a path that leads outside"),
        (header(tarfile.XHDTYPE, "x", 2**33), "a header of 8589934592 bytes"),
        (header(tarfile.GNUTYPE_SPARSE, "huge"), "sparse"),
        (header(tarfile.REGTYPE, "huge", 2**50), "more than a base may"),
        (b"\x1f\x8bno gzip at all", "is no tar"),
    ],
)
def test_a_hostile_base_is_refused_and_not_locked(store, model, registry, tmp_path, data, message):
    base = hostile_base(registry, tmp_path, data + bytes(1024))
    locks = sorted(store.locks.iterdir())
    with pytest.raises(EdgekitError, match=message):
        plan_image(model(), store, (AMD64,), base=base)
    assert sorted(store.locks.iterdir()) == locks


PYTHON = (
    Entry("usr/local/bin/python3", "symlink", target="python3.11"),
    Entry("usr/local/bin/python3.11", content=b"interpreter", mode=0o755),
)


@pytest.fixture
def _other_wheels(store):
    """The same wheels, locked for a base that does not tell its C library."""
    store.write_lock("wheels-3.11-glibc2.28", store.read_lock("wheels-3.11"))


@pytest.mark.usefixtures("_other_wheels")
def test_a_base_from_a_registry_is_used_as_it_is(store, model, registry, tmp_path):
    base = push_base(registry, tmp_path, *PYTHON)
    built = build(model(), store, base=base)
    manifest = manifests_of(built.blobs, built.root)[AMD64]
    assert Blobs(tmp_path / "base-blobs").path(manifest.layers[0].digest).exists()
    environment = config_of(built.blobs, manifest)["config"]["Env"]
    assert "LANG=C.UTF-8" in environment
    assert "PYTHONPATH=/opt/edgekit/runtime:/opt/edgekit/lib" in environment
    files = layer_files(built.blobs, layer(built, "wheels"))
    assert files["usr/bin/python3"].linkname == "../../usr/local/bin/python3"


@pytest.mark.usefixtures("_other_wheels")
def test_a_base_is_locked_by_digest(store, model, registry, tmp_path):
    base = push_base(registry, tmp_path, *PYTHON)
    first = build(model(), store, base=base)
    push_base(registry, tmp_path, *PYTHON, Entry("new", content=b"x"))
    assert build(model(), store, base=base).digest == first.digest
    next(store.locks.glob("base-*")).unlink()
    assert build(model(), store, base=base).digest != first.digest


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ((Entry("bin/sh", content=b"x"),), "has no Python 3"),
        ((*PYTHON, Entry("lib/ld-musl-x86_64.so.1", content=b"x")), "is built on musl"),
    ],
)
def test_a_base_that_cannot_carry_wheels_is_refused(
    store, model, registry, tmp_path, entries, message
):
    base = push_base(registry, tmp_path, *entries)
    with pytest.raises(ImageError, match=message):
        plan_image(model(), store, base=base)


def test_a_model_whose_layer_is_there_is_not_read_again(store, model):
    packaged = model()
    first = build(packaged, store)

    def refuse():
        raise AssertionError("the model was read")

    again = build(replace(packaged, file=refuse), store)
    assert again.digest == first.digest


@pytest.fixture
def package(tmp_path, store):
    """An FPGA package as a model, and the wheels its image takes."""
    from edgekit.oci.layer import file_digest
    from edgekit.packager.recipes import PackagedModel
    from edgekit.packager.wheels import FPGA_REQUIREMENTS
    from edgekit_fpga import compile_model
    from tests.edgekit_fpga.graphs import small_net

    path = tmp_path / "net.npu"
    compile_model(small_net(0)).save(path)
    lock = store.read_lock("wheels-3.11")
    store.write_lock("wheels-fpga-3.11", lock | {"requirements": sorted(FPGA_REQUIREMENTS)})
    return PackagedModel("net", 4, file_digest(path), path, kind="npu")


def test_an_fpga_package_comes_with_what_serves_it_and_no_more(store, package):
    built = build(package, store)
    found = {path for each in built.layers for path in layer_files(built.blobs, each)}
    assert {
        "opt/edgekit/model/model.npu",
        "opt/edgekit/model/model.json",
        "opt/edgekit/runtime/edgekit_fpga/driver/serial.py",
        "opt/edgekit/runtime/edgekit_runtime/fpga_scorer/__init__.py",
    } <= found
    assert not [path for path in found if path.endswith((".sv", ".cpp", "model.onnx"))]
    for manifest in manifests_of(built.blobs, built.root).values():
        config = config_of(built.blobs, manifest)["config"]
        assert config["Cmd"] == ["fpga-scorer"]
        assert sorted(config["ExposedPorts"]) == ["8080/tcp", "8081/tcp"]
        assert "EDGEKIT_GRPC_PORT=8081" in config["Env"]


def test_an_fpga_images_files_are_enough_to_serve_it(store, package, tmp_path):
    """Its runtime and model layers, unpacked, with nothing of this checkout on the path."""
    import io

    built = build(package, store, platforms=(AMD64,))
    for name in ("runtime", "model"):
        data = built.blobs.path(layer(built, name).digest).read_bytes()
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            # as an attribute: Python before 3.11.4 knows no filters
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            archive.extractall(tmp_path)
    program = (
        "import sys, pathlib;"
        "sys.path[:0] = [sys.argv[1] + '/opt/edgekit/runtime'];"
        "from edgekit_fpga.driver import open_driver;"
        "from edgekit_runtime.fpga_scorer.model import FpgaModel;"
        "from edgekit_runtime.fpga_scorer.packages import folder_sources;"
        "source, = folder_sources(pathlib.Path(sys.argv[1] + '/opt/edgekit/model'))();"
        "made = FpgaModel.load(*source.read(), open_driver(), print);"
        "import edgekit_fpga;"
        "assert edgekit_fpga.__file__.startswith(sys.argv[1]);"
        "print(made.name, made.version, made.outputs[0].shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True
    )
    assert done.stdout == "net 4 (-1, 10)\n", done.stderr
