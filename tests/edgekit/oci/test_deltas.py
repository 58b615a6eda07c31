"""A device with the old layer fetches the difference; whatever does not fit, it fetches whole."""

from dataclasses import replace

import numpy as np
import pytest

from edgekit.errors import OciError
from edgekit.oci.artifacts import push_artifact, put_artifact
from edgekit.oci.blobs import Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.deltas import DELTA, delta_size, make_delta
from edgekit.oci.descriptor import Descriptor, Platform
from edgekit.oci.image import NamedLayer, Settings, put_image, put_index
from edgekit.oci.layer import Entry, write_layer
from edgekit.oci.reference import Reference
from edgekit.oci.transfer import pull, push

AMD64 = Platform("linux", "amd64")
PLACE = "edge/digits"


def weights(changed=0.0):
    values = np.random.default_rng(0).normal(0, 0.05, 100_000).astype(np.float32)
    values[-1000:] += np.float32(changed)
    return values.tobytes()


def image_of(blobs, content, compression="none"):
    """An image with one layer; its index and the layer."""
    layer = write_layer([Entry("model.onnx", content=content)], blobs, compression, 1)
    manifest = put_image(blobs, AMD64, Settings(), [NamedLayer(layer, "model")])
    return put_index(blobs, [manifest]), layer.descriptor


class Site:
    """A registry with two versions, and a device that has pulled the first."""

    def __init__(self, registry, folder, compression="none", changed=0.01):
        self.blobs, self.device = Blobs(folder / "blobs"), Blobs(folder / "device")
        self.old = Reference.parse(f"{registry}/{PLACE}:1")
        self.new = Reference.parse(f"{registry}/{PLACE}:2")
        _root, self.old_layer = self.send(self.old, weights(), compression)
        self.root, self.new_layer = self.send(self.new, weights(changed), compression)
        self.pull(self.old)

    def send(self, reference, content, compression):
        root, layer = image_of(self.blobs, content, compression)
        with RegistryClient(reference) as client:
            push(self.blobs, root, reference, client)
        return root, layer

    def publish(self, artifact):
        with RegistryClient(self.new) as client:
            push_artifact(self.blobs, artifact, PLACE, client)

    def delta(self):
        return make_delta(self.blobs, self.old_layer, self.blobs, self.new_layer, self.root, (6, 1))

    def pull(self, reference):
        """The bytes that came for each blob."""
        fetched = {}

        def tell(blob, step, _present):
            fetched[blob.digest] = fetched.get(blob.digest, 0) + step

        with RegistryClient(reference, backoff=0) as client:
            pull(reference, self.device, AMD64, client, tell)
        return fetched


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_the_difference_is_all_that_is_fetched(registry, tmp_path, compression):
    site = Site(registry, tmp_path, compression)
    artifact = site.delta()
    site.publish(artifact)

    fetched = site.pull(site.new)
    assert fetched[site.new_layer.digest] == delta_size(site.blobs, artifact)
    assert fetched[site.new_layer.digest] < site.new_layer.size / 50
    whole = site.blobs.path(site.new_layer.digest).read_bytes()
    assert site.device.path(site.new_layer.digest).read_bytes() == whole


def test_without_the_old_layer_the_whole_one_is_fetched(simulated, tmp_path):
    site = Site(simulated, tmp_path)
    site.publish(site.delta())
    site.device.path(site.old_layer.digest).unlink()

    assert site.pull(site.new)[site.new_layer.digest] == site.new_layer.size


def test_an_old_layer_that_is_damaged_makes_nothing_wrong(simulated, tmp_path):
    site = Site(simulated, tmp_path)
    site.publish(site.delta())
    path = site.device.path(site.old_layer.digest)
    path.write_bytes(path.read_bytes()[::-1])

    site.pull(site.new)
    assert site.device.read(site.new_layer, limit=2**20)


def forged(site, payload, **said):
    """The delta's artefact with other content, or other claims."""
    honest = site.delta()
    about = {f"edgekit.delta.{name}": value for name, value in said.items()}
    layer = site.blobs.put(payload, DELTA) if payload else _payload(site, honest)
    annotations = {**honest.annotations, **about}
    return put_artifact(site.blobs, site.root, DELTA, layer, annotations=annotations)


def _payload(site, artifact):
    from edgekit.oci.image import Manifest

    return Manifest.parse(artifact, site.blobs.read(artifact)).layers[0]


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"no delta", {}),
        (bytes(500_000), {}),
        (b"", {"content.size": "1000000000000"}),
        (b"", {"content.size": "12"}),
        (b"", {"content.size": "many"}),
        (b"", {"level": "99"}),
        (b"", {"from": "../../etc/passwd"}),
        (b"", {"compressor": "another"}),
    ],
)
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_hostile_delta_is_passed_over(simulated, tmp_path, payload, said, compression):
    site = Site(simulated, tmp_path, compression)
    artifact = forged(site, payload, **said)
    site.publish(artifact)

    fetched = site.pull(site.new)
    assert fetched[site.new_layer.digest] >= min(site.new_layer.size, 10_000)
    assert site.device.read(site.new_layer, limit=2**20)
    assert not list(tmp_path.rglob("device/**/.partial-*"))


def test_a_delta_of_another_image_does_not_fit(simulated, tmp_path):
    site = Site(simulated, tmp_path)
    _root, other = image_of(site.blobs, weights(0.5))
    artifact = make_delta(site.blobs, site.old_layer, site.blobs, other, site.root, (0,))
    about = {**artifact.annotations, "edgekit.delta.to": site.new_layer.digest}
    layer = _payload(site, artifact)
    site.publish(put_artifact(site.blobs, site.root, DELTA, layer, annotations=about))

    site.pull(site.new)
    assert site.device.read(site.new_layer, limit=2**20)


def test_layers_that_share_nothing_get_no_delta(tmp_path):
    blobs = Blobs(tmp_path)
    _root, old = image_of(blobs, np.random.default_rng(1).bytes(200_000))
    root, new = image_of(blobs, np.random.default_rng(2).bytes(200_000))
    with pytest.raises(OciError, match="share too little"):
        make_delta(blobs, old, blobs, new, root)


def test_a_layer_of_another_compressor_gets_no_delta(tmp_path):
    blobs = Blobs(tmp_path)
    _root, old = image_of(blobs, weights(), "gzip")
    root, new = image_of(blobs, weights(0.1), "gzip")
    again = bytearray(blobs.path(new.digest).read_bytes())
    again[9] = 3  # the operating system in gzip's header: another program's
    other = replace(blobs.put(bytes(again), new.media_type), media_type=new.media_type)
    assert isinstance(other, Descriptor)
    with pytest.raises(OciError, match="another compressor"):
        make_delta(blobs, old, blobs, other, root, (1, 6))
