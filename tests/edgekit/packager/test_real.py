"""The whole image, built from Debian's mirror and pip's indexes, and run: the real judges."""

import json
import platform
import subprocess
from pathlib import Path

import pytest

from edgekit.oci.blobs import Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.descriptor import Platform
from edgekit.oci.image import manifests_of
from edgekit.oci.layout import Layout
from edgekit.oci.reference import Reference
from edgekit.oci.transfer import pull, push
from edgekit.oci.unpack import unpack
from edgekit.packager.image import build_image
from edgekit.packager.plan import plan_image
from edgekit.packager.recipes import PackagedModel
from edgekit.packager.store import Store
from edgekit_sim.ociregistry import Registry

pytestmark = [
    pytest.mark.needs("debian-mirror"),
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("real"),
]

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")

IMPORTS = """
import bz2, ctypes, hashlib, lzma, platform, sqlite3, ssl, sys, uuid, zlib
import azure.iot.device, httptools, numpy, onnxruntime, orjson, paho.mqtt.client
import prometheus_client, uvloop
import edgekit_runtime
assert ssl.create_default_context().get_ca_certs()
assert sqlite3.connect(":memory:").execute("select 6 * 7").fetchone() == (42,)
session = onnxruntime.InferenceSession(ROOT + "/opt/edgekit/model/model.onnx")
(first,) = session.get_inputs()
output = session.run(None, {first.name: numpy.zeros((1, 1, 8, 8), "float32")})[0]
print(platform.machine(), "%d.%d" % sys.version_info[:2], output.shape)
"""

# What an ARM kernel says of its processor. Under user-mode emulation the kernel's own files tell
# of the host's, and the library by which ONNX Runtime looks at caches crashes on it.
CPUINFO = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd03
CPU revision\t: 4

"""


@pytest.fixture(scope="module")
def store(request):
    """Downloads outlive the test run, in pytest's own cache."""
    folder = Path(request.config.cache.mkdir("edgekit-images"))
    return Store(folder / "cache", folder / "locks")


@pytest.fixture(scope="module")
def built(store):
    from edgekit.oci.layer import file_digest

    file = Path(__file__).parents[3] / "examples" / "digits" / "digits.onnx"
    model = PackagedModel("digits", 1, file_digest(file), file)
    return build_image(plan_image(model, store), store)


@pytest.fixture(scope="module")
def reference(built, tmp_path_factory):
    """The image in a registry, where engines pull it from."""
    with Registry(tmp_path_factory.mktemp("registry")) as registry:
        reference = Reference.parse(f"{registry.address}/edge/digits:1")
        with RegistryClient(reference) as client:
            push(built.blobs, built.root, reference, client)
        yield reference


def run(*command, env=None):
    answer = subprocess.run(command, capture_output=True, text=True, timeout=240, env=env)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


@pytest.fixture
def pulled(reference):
    """The image in the Docker engine, and out of it again."""
    run("docker", "pull", "--quiet", str(reference))
    yield str(reference)
    run("docker", "image", "rm", "--force", str(reference))


@pytest.mark.needs("docker")
def test_docker_pulls_and_runs_it(pulled):
    code = f"ROOT = ''\n{IMPORTS}"
    entry = ("--entrypoint", "/usr/bin/python3", "--read-only", "--cap-drop=ALL")
    assert run("docker", "run", "--rm", *entry, pulled, "-c", code) == "x86_64 3.11 (1, 10)"


@pytest.mark.needs("docker")
def test_it_does_not_run_as_root(pulled):
    code = "import os; print(os.getuid(), os.getgid(), os.access('/opt/edgekit', os.W_OK))"
    found = run("docker", "run", "--rm", "--entrypoint", "/usr/bin/python3", pulled, "-c", code)
    assert found == "1000 1000 False"


@pytest.mark.needs("docker")
@pytest.mark.needs("qemu-aarch64-static")
def test_docker_runs_the_other_platform_under_emulation(reference, tmp_path):
    arm = str(reference)
    run("docker", "pull", "--quiet", "--platform", "linux/arm64", arm)
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    emulator = run("which", "qemu-aarch64-static")
    try:
        found = run(
            *("docker", "run", "--rm", "--platform", "linux/arm64", "--entrypoint", "/emulator"),
            *("--volume", f"{emulator}:/emulator:ro"),
            *("--volume", f"{tmp_path / 'cpuinfo'}:/proc/cpuinfo:ro"),
            *(arm, "/usr/bin/python3", "-c", f"ROOT = ''\n{IMPORTS}"),
        )
    finally:
        run("docker", "image", "rm", "--force", arm)
    assert found == "aarch64 3.11 (1, 10)"


@pytest.mark.needs("skopeo")
def test_skopeo_sees_both_platforms(reference):
    raw = run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}")
    found = [each["platform"]["architecture"] for each in json.loads(raw)["manifests"]]
    assert found == ["amd64", "arm64"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the tree is for x86-64")
def test_it_starts_as_a_process_without_root_and_without_a_container(reference, tmp_path):
    """As the device's stand-in starts it: the tree's own loader, libraries and interpreter."""
    root = tmp_path / "root"
    unpack(pull(reference, Blobs(tmp_path / "blobs"), AMD64), root)
    found = run(
        *(str(root / "lib64/ld-linux-x86-64.so.2"), "--library-path"),
        *(str(root / "usr/lib/x86_64-linux-gnu"), str(root / "usr/bin/python3.11"), "-c"),
        f"ROOT = {str(root)!r}\n{IMPORTS}assert sys.prefix.startswith(ROOT), sys.prefix",
        env={
            "PYTHONHOME": str(root / "usr"),
            "PYTHONPATH": f"{root}/opt/edgekit/runtime:{root}/opt/edgekit/lib",
            "SSL_CERT_FILE": str(root / "etc/ssl/certs/ca-certificates.crt"),
            "HOME": str(tmp_path),
        },
    )
    assert found == "x86_64 3.11 (1, 10)"


def test_every_link_of_the_tree_leads_to_something_in_it(reference, tmp_path):
    for architecture in (AMD64, ARM64):
        root = tmp_path / architecture.architecture
        unpack(pull(reference, Blobs(tmp_path / "blobs"), architecture), root)
        links = [path for path in root.rglob("*") if path.is_symlink()]
        outside = [
            path.relative_to(root)
            for path in links
            if not path.exists() or not path.resolve().is_relative_to(root.resolve())
        ]
        assert (len(links) > 20, outside) == (True, [])


def test_no_network_is_needed_the_second_time(built, store, monkeypatch, tmp_path):
    """Everything is in the cache but the layers: the same image comes out, with no mirror known."""
    monkeypatch.setenv("EDGEKIT_DEBIAN_MIRROR", "http://127.0.0.1:1")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    other = Store(tmp_path / "cache", store.locks)
    other.cache.mkdir()
    for name in ("downloads", "wheels"):
        (other.cache / name).symlink_to(store.cache / name)
    file = Path(__file__).parents[3] / "examples" / "digits" / "digits.onnx"
    model = PackagedModel("digits", 1, built_digest(built), file)
    again = build_image(plan_image(model, other), other)
    assert (again.digest, {each.cached for each in again.layers}) == (built.digest, {False})


def built_digest(built):
    manifest = next(iter(manifests_of(built.blobs, built.root).values()))
    return manifest.annotations["edgekit.model.digest"]


def test_a_layout_of_it_holds_everything(built, tmp_path):
    layout = Layout(tmp_path / "layout")
    layout.add(built.blobs, built.root, "digits:1")
    assert set(manifests_of(layout.blobs, layout.find("digits:1"))) == {AMD64, ARM64}


@pytest.mark.needs("docker")
def test_an_fpga_image_answers_over_grpc(store, tmp_path):
    """In a container as a device starts it: the interpreter behind TensorFlow Serving's Predict."""
    import grpc
    import numpy as np

    from edgekit.oci.layer import file_digest
    from edgekit_fpga import compile_model
    from edgekit_fpga import run as interpret
    from edgekit_runtime.serving.messages import MESSAGES
    from tests.edgekit_fpga.graphs import small_net

    package, file = compile_model(small_net(0)), tmp_path / "net.npu"
    package.save(file)
    model = PackagedModel("net", 4, file_digest(file), file, kind="npu")
    built = build_image(plan_image(model, store, platforms=(AMD64,)), store)
    image = np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)
    request = MESSAGES["tensorflow.serving.PredictRequest"]()
    tensor = request.inputs["x"]
    tensor.dtype, tensor.tensor_content = 1, image.tobytes()
    for extent in image.shape:
        tensor.tensor_shape.dim.add(size=extent)
    with Registry(tmp_path / "registry") as registry:
        reference = Reference.parse(f"{registry.address}/edge/net-fpga:4")
        with RegistryClient(reference) as client:
            push(built.blobs, built.root, reference, client)
        options = ("--read-only", "--cap-drop=ALL", "--publish", "127.0.0.1::8081")
        container = run("docker", "run", "--detach", *options, str(reference))
    try:
        address = run("docker", "port", container, "8081/tcp").splitlines()[0]
        with grpc.insecure_channel(address) as channel:
            predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            answer = predict(request.SerializeToString(), wait_for_ready=True, timeout=100)
    finally:
        run("docker", "rm", "--force", container)
        run("docker", "image", "rm", "--force", str(reference))
    made = MESSAGES["tensorflow.serving.PredictResponse"].FromString(answer)
    values = np.frombuffer(made.outputs["y"].tensor_content, np.float32)
    assert values.tolist() == interpret(package, {"x": image})["y"].ravel().tolist()
    assert made.model_spec.version.value == 4


SCRIPT = """
import json, os
import dateutil.parser

def init():
    global names
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "days.json")) as file:
        names = json.load(file)

def run(data):
    return names[dateutil.parser.parse(json.loads(data)["day"]).weekday()]
"""


@pytest.mark.needs("docker")
def test_a_model_of_another_framework_is_scored_by_its_script(store, tmp_path):
    from edgekit.oci.layer import file_digest
    from edgekit.packager.deliver import load

    (tmp_path / "days.json").write_text(
        json.dumps(["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"])
    )
    (tmp_path / "score.py").write_text(SCRIPT)
    (tmp_path / "requirements.txt").write_text("python-dateutil\n")
    digest = file_digest(tmp_path / "days.json")
    model = PackagedModel(
        "days", 1, digest, tmp_path / "days.json", kind="file", filename="days.json"
    )
    plan = plan_image(
        model,
        store,
        (Platform("linux", "amd64"),),
        score=tmp_path / "score.py",
        requirements=tmp_path / "requirements.txt",
    )
    load(build_image(plan, store), "edgekit-test-days:1")
    ask = (
        "import http.client as h, time\n"
        "for _ in range(200):\n"
        "    try:\n"
        "        c = h.HTTPConnection('127.0.0.1', 8080); c.request('POST', '/score', '{\"day\":"
        ' "2026-01-02"}\'); print(c.getresponse().read().decode()); break\n'
        "    except OSError: time.sleep(0.1)\n"
    )
    container = run("docker", "run", "--detach", "--read-only", "edgekit-test-days:1")
    try:
        answer = run("docker", "exec", container, "/usr/bin/python3", "-c", ask)
    finally:
        run("docker", "rm", "--force", container)
        run("docker", "image", "rm", "--force", "edgekit-test-days:1")
    assert json.loads(answer) == "Fri"
