"""Layouts and archives, as skopeo reads them."""

import json

import pytest

from edgekit.errors import Corrupt, OciError
from edgekit.oci.image import manifests_of
from edgekit.oci.layout import Layout, write_docker_archive

from .conftest import AMD64, skopeo, small_image


@pytest.fixture
def layout(tmp_path, blobs, image):
    layout = Layout(tmp_path / "layout")
    layout.add(blobs, image, "digits:1")
    return layout


@pytest.mark.needs("skopeo")
def test_skopeo_inspects_it(layout, image):
    found = json.loads(skopeo("inspect", f"oci:{layout.folder}:digits:1"))
    assert found["Digest"] == image.digest


@pytest.mark.needs("skopeo")
def test_skopeo_copies_every_platform(layout, image, tmp_path):
    skopeo("copy", "--all", f"oci:{layout.folder}:digits:1", f"oci:{tmp_path / 'copy'}:1")
    copied = Layout(tmp_path / "copy")
    assert copied.find("1").digest == image.digest
    assert list(manifests_of(copied.blobs, copied.find("1"))) == list(
        manifests_of(layout.blobs, image)
    )


@pytest.mark.needs("skopeo")
def test_skopeo_reads_the_docker_archive(layout, image, tmp_path):
    manifest = manifests_of(layout.blobs, image)[AMD64]
    write_docker_archive(tmp_path / "image.tar", layout.blobs, manifest, ["digits:1"])
    found = json.loads(skopeo("inspect", f"docker-archive:{tmp_path / 'image.tar'}"))
    config = json.loads(layout.blobs.read(manifest.config))
    assert (found["Architecture"], found["Layers"]) == ("amd64", config["rootfs"]["diff_ids"])


def test_a_name_stands_for_what_was_added_last(layout, blobs):
    second = small_image(blobs, "again")
    layout.add(blobs, second, "digits:1")
    assert [root.digest for root in layout.roots()] == [second.digest]


def test_several_images_are_told_apart_by_name(layout, blobs, image):
    layout.add(blobs, small_image(blobs, "other"), "other:1")
    assert layout.find("digits:1").digest == image.digest
    with pytest.raises(OciError, match=r"holds digits:1, other:1"):
        layout.find()


def test_a_damaged_blob_is_noticed(layout, image):
    path = layout.blobs.path(image.digest)
    path.write_bytes(path.read_bytes().replace(b"linux", b"linus"))
    with pytest.raises(Corrupt, match="not what its digest says"):
        manifests_of(layout.blobs, layout.find())


def test_a_folder_that_is_none_is_told(tmp_path):
    with pytest.raises(OciError, match="is no OCI layout"):
        Layout(tmp_path).roots()
