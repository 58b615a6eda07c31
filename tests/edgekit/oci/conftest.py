"""A small image, and registries to push it to: Debian's own and the simulator's."""

import base64
import json
import shutil
import socket
import subprocess
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from edgekit.oci.blobs import Blobs
from edgekit.oci.descriptor import Platform
from edgekit.oci.image import NamedLayer, Settings, put_image, put_index
from edgekit.oci.layer import Entry, write_layer
from edgekit_sim.ociregistry import Registry

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def free_port():
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(autouse=True)
def _no_credentials(tmp_path, monkeypatch):
    """No test reads the Docker config of whoever runs it."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker-config"))


@pytest.fixture
def blobs(tmp_path):
    return Blobs(tmp_path / "blobs")


def small_image(blobs, text="hello"):
    """An image for two platforms with a shared layer; returns the index's descriptor."""
    shared = write_layer([Entry("etc/greeting", content=text.encode())], blobs)
    manifests = []
    for platform in (AMD64, ARM64):
        own = write_layer([Entry("etc/platform", content=str(platform).encode())], blobs)
        manifests.append(
            put_image(
                blobs,
                platform,
                Settings(command=("/bin/true",)),
                [NamedLayer(own, "base"), NamedLayer(shared, "greeting")],
            )
        )
    return put_index(blobs, manifests, {"edgekit.test": "yes"})


@pytest.fixture
def image(blobs):
    return small_image(blobs)


@pytest.fixture
def simulated(tmp_path):
    with Registry(tmp_path / "registry") as registry:
        yield registry.address


@contextmanager
def docker_registry(folder, extra=""):
    """Debian's docker-registry on a free port; `extra` goes into its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nhttp:\n  addr: {address}\n  secret: test\n{extra}"
        f"storage:\n  filesystem: {{rootdirectory: {folder / 'data'}}}\n"
        "  delete: {enabled: true}\n"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log
        )
    try:
        for _attempt in range(200):
            try:
                # any answer will do: one about credentials, or one about TLS
                httpx.get(f"http://{address}/v2/", timeout=5)
                break
            except httpx.TransportError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
        yield address
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def debians(tmp_path):
    with docker_registry(tmp_path / "docker-registry") as address:
        yield address


@pytest.fixture(
    params=["simulated", pytest.param("debians", marks=pytest.mark.needs("docker-registry"))]
)
def registry(request):
    """The address of a registry: the simulator's, then Debian's."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def login(tmp_path):
    """Writes a Docker config with a credential, as `docker login` does."""

    def write(address, username, password):
        auth = base64.b64encode(f"{username}:{password}".encode()).decode()
        folder = tmp_path / "docker-config"
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"auths": {address: {"auth": auth}}}))

    return write


@pytest.fixture
def certificate(tmp_path):
    """A self-signed certificate for 127.0.0.1: the paths of its key and itself."""
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_path, path = tmp_path / "key.pem", tmp_path / "certificate.pem"
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return key_path, path


def skopeo(*arguments):
    """Run skopeo and return what it says; its error is the test's."""
    assert shutil.which("skopeo")
    answer = subprocess.run(
        ["skopeo", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout
