"""Push and pull, against the simulator's registry and Debian's."""

import json
import ssl

import pytest

from edgekit.errors import OciError, Unauthorized, Unreachable
from edgekit.oci import upload
from edgekit.oci.blobs import Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.image import manifests_of, walk
from edgekit.oci.layer import Entry, write_layer
from edgekit.oci.layout import Layout
from edgekit.oci.reference import Reference
from edgekit.oci.transfer import pull, push

from .conftest import AMD64, ARM64, docker_registry, free_port, skopeo, small_image


@pytest.fixture
def reference(registry):
    return Reference.parse(f"{registry}/edge/digits:1")


def send(blobs, root, reference, **more):
    with RegistryClient(reference, backoff=0) as client:
        return push(blobs, root, reference, client, **more)


def test_what_was_pushed_is_pulled(blobs, image, reference, tmp_path):
    send(blobs, image, reference)
    pulled = pull(reference, Blobs(tmp_path / "pulled"), ARM64)
    assert pulled.manifest == manifests_of(blobs, image)[ARM64]
    for layer in pulled.manifest.layers:
        assert pulled.blobs.path(layer.digest).read_bytes() == blobs.path(layer.digest).read_bytes()


def test_everything_goes_once(blobs, image, reference):
    expected = sum(each.size for each in walk(blobs, image))
    assert send(blobs, image, reference).bytes_uploaded == expected
    assert send(blobs, image, reference).bytes_uploaded == 0


def test_only_what_is_missing_goes(blobs, image, reference):
    send(blobs, image, reference)
    before = set(walk(blobs, image))
    changed = small_image(blobs, "changed")
    expected = sum(each.size for each in set(walk(blobs, changed)) - before)
    assert send(blobs, changed, reference).bytes_uploaded == expected


def test_a_digest_is_a_reference(blobs, image, reference, tmp_path):
    pushed = send(blobs, image, reference)
    assert str(pushed.reference).endswith(f"/edge/digits@{image.digest}")
    assert pull(pushed.reference, Blobs(tmp_path / "pulled"), AMD64).platform == AMD64


def test_large_blobs_go_in_pieces(blobs, reference, monkeypatch, tmp_path):
    monkeypatch.setattr(upload, "UPLOAD_CHUNK", 1000)
    layer = write_layer([Entry("data", content=bytes(range(256)) * 20)], blobs, "none")
    steps = []
    with RegistryClient(reference) as client:
        client.put_blob(reference.name, layer.descriptor, blobs, steps.append)
        fetched = Blobs(tmp_path / "fetched")
        client.get_blob(reference.name, layer.descriptor, fetched)
    assert sum(steps) == layer.descriptor.size
    assert len(steps) > 5
    assert fetched.has(layer.descriptor)


def test_a_blob_is_mounted_from_another_repository(blobs, image, reference):
    send(blobs, image, reference)
    layer = manifests_of(blobs, image)[AMD64].layers[0]
    with RegistryClient(reference) as client:
        sent = client.put_blob("edge/other", layer, blobs, mount_from=reference.name)
        assert (sent, client.has_blob("edge/other", layer.digest)) == (0, True)


def test_tags_are_listed_and_manifests_deleted(blobs, image, reference):
    send(blobs, image, reference)
    with RegistryClient(reference) as client:
        assert client.tags(reference.name) == ["1"]
        client.delete_manifest(reference.name, image.digest)
        with pytest.raises(OciError, match="is not there"):
            client.get_manifest(reference.name, "1")


def test_a_platform_that_is_not_there_is_told_with_those_that_are(
    blobs, image, reference, tmp_path
):
    send(blobs, image, reference)
    riscv = type(AMD64)("linux", "riscv64")
    with pytest.raises(
        OciError, match="no image for linux/riscv64; it has linux/amd64, linux/arm64"
    ):
        pull(reference, Blobs(tmp_path / "pulled"), riscv)


def test_a_layout_is_pulled_like_a_registry(blobs, image, tmp_path):
    layout = Layout(tmp_path / "layout")
    layout.add(blobs, image, "digits:1")
    pulled = pull(layout, Blobs(tmp_path / "pulled"), AMD64)
    assert pulled.manifest == manifests_of(blobs, image)[AMD64]


@pytest.mark.needs("skopeo")
def test_skopeo_pulls_what_we_push_and_pushes_what_we_pull(blobs, image, reference, tmp_path):
    send(blobs, image, reference)
    copied, again = tmp_path / "copied", f"{reference.registry}/edge/again:1"
    skopeo(
        *("copy", "--all", "--src-tls-verify=false"),
        *(f"docker://{reference}", f"oci:{copied}:1"),
    )
    assert Layout(copied).find().digest == image.digest
    skopeo("copy", "--all", "--dest-tls-verify=false", f"oci:{copied}:1", f"docker://{again}")
    pulled = pull(Reference.parse(again), Blobs(tmp_path / "pulled"), ARM64)
    assert pulled.manifest == manifests_of(blobs, image)[ARM64]


def test_nobody_there_is_one_clear_error(blobs, image):
    reference = Reference.parse(f"127.0.0.1:{free_port()}/digits:1")
    with pytest.raises(Unreachable, match=f"no registry answers at {reference.registry}"):
        send(blobs, image, reference)


# htpasswd's line for the user edge with the password s3cret, bcrypt
HTPASSWD = "edge:$2b$04$qzMdni3TCoFkjE9EmssQx.c3kiAuhG7vGRGane7JDY0/bZwZG8rLK\n"


@pytest.fixture
def guarded(tmp_path):
    """Debian's registry behind a user name and a password."""
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    extra = f"auth:\n  htpasswd: {{realm: test, path: {tmp_path / 'htpasswd'}}}\n"
    with docker_registry(tmp_path / "guarded", extra) as address:
        yield address


@pytest.mark.needs("docker-registry")
def test_the_credential_comes_from_the_docker_config(blobs, image, guarded, login):
    login(guarded, "edge", "s3cret")
    assert send(blobs, image, Reference.parse(f"{guarded}/digits:1")).bytes_uploaded > 0


@pytest.mark.needs("docker-registry")
@pytest.mark.parametrize(
    ("password", "message"), [(None, "the Docker config has none"), ("wrong", "refuses edge")]
)
def test_a_missing_or_wrong_credential_is_told(blobs, image, guarded, login, password, message):
    if password:
        login(guarded, "edge", password)
    with pytest.raises(Unauthorized, match=message) as error:
        send(blobs, image, Reference.parse(f"{guarded}/digits:1"))
    assert error.value.hint == f"docker login {guarded}"
    assert "wrong" not in str(error.value)


@pytest.mark.needs("docker-registry")
def test_tls_with_an_authority_of_its_own(blobs, image, certificate, tmp_path, monkeypatch):
    key, path = certificate
    extra = f"  tls: {{certificate: {path}, key: {key}}}\n"
    with docker_registry(tmp_path / "tls", extra) as address:
        reference = Reference.parse(f"{address}/digits:1")
        with pytest.raises(Unreachable, match=r"certificate .* is not trusted"):
            send(blobs, image, reference)
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        assert ssl.get_default_verify_paths().cafile == str(path)
        assert send(blobs, image, reference).bytes_uploaded > 0


def test_the_registry_keeps_what_it_is_given(blobs, image, reference):
    send(blobs, image, reference)
    with RegistryClient(reference) as client:
        descriptor, data = client.get_manifest(reference.name, "1")
    assert (descriptor.digest, json.loads(data)["annotations"]) == (
        image.digest,
        {"edgekit.test": "yes"},
    )
