"""Unpacking: whiteouts are honoured, and no layer reaches outside its folder."""

import io
import tarfile

import pytest

from edgekit.errors import Corrupt, OciError
from edgekit.oci.descriptor import LAYER, Descriptor
from edgekit.oci.image import Manifest, NamedLayer, Settings, put_image
from edgekit.oci.layer import Entry, Layer, write_layer
from edgekit.oci.transfer import Image
from edgekit.oci.unpack import unpack

from .conftest import AMD64


def image_of(blobs, *layers):
    root = put_image(blobs, AMD64, Settings(), [NamedLayer(layer, "test") for layer in layers])
    return Image(blobs, Manifest.parse(root, blobs.read(root)), AMD64)


def raw_layer(blobs, *members):
    """A layer as an enemy would write it: any member, unchecked."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    descriptor = blobs.put(out.getvalue(), LAYER)
    return Layer(descriptor, descriptor.digest)


def member(name, kind=tarfile.REGTYPE, target="", mode=0o644):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    return info


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_later_layers_lie_over_earlier(blobs, tmp_path, compression):
    lower = write_layer([Entry("a", content=b"old"), Entry("b", content=b"b")], blobs, compression)
    upper = write_layer([Entry("a", content=b"new")], blobs, compression)
    unpack(image_of(blobs, lower, upper), tmp_path / "root")
    assert tree(tmp_path / "root") == {"a": "new", "b": "b"}


def test_whiteouts_remove(blobs, tmp_path):
    lower = write_layer([Entry(f"d/{name}", content=b"x") for name in "abc"], blobs)
    upper = write_layer([Entry("d/.wh.b")], blobs)
    unpack(image_of(blobs, lower, upper), tmp_path / "root")
    assert set(tree(tmp_path / "root")) == {"d/a", "d/c"}


def test_an_opaque_folder_hides_what_was_below_but_not_what_it_brings(blobs, tmp_path):
    lower = write_layer([Entry("d/old", content=b"x"), Entry("d/sub/old", content=b"x")], blobs)
    upper = write_layer([Entry("d/a", content=b"n"), Entry("d/.wh..wh..opq")], blobs)
    unpack(image_of(blobs, lower, upper), tmp_path / "root")
    assert set(tree(tmp_path / "root")) == {"d/a"}


def test_a_file_takes_the_place_of_a_folder(blobs, tmp_path):
    lower = write_layer([Entry("d/old", content=b"x")], blobs)
    unpack(
        image_of(blobs, lower, write_layer([Entry("d", content=b"f")], blobs)), tmp_path / "root"
    )
    assert tree(tmp_path / "root") == {"d": "f"}


def test_paths_go_through_the_images_own_links(blobs, tmp_path):
    lower = write_layer(
        [Entry("usr/lib", "directory", mode=0o755), Entry("lib", "symlink", target="usr/lib")],
        blobs,
    )
    upper = raw_layer(blobs, (member("lib/x"), b"x"))
    unpack(image_of(blobs, lower, upper), tmp_path / "root")
    assert tree(tmp_path / "root") == {"usr/lib/x": "x"}


def test_an_absolute_link_stays_inside(blobs, tmp_path):
    (tmp_path / "outside").mkdir()
    lower = raw_layer(
        blobs,
        (member("etc", tarfile.DIRTYPE, mode=0o755), b""),
        (member("trap", tarfile.SYMTYPE, str(tmp_path / "outside")), b""),
        (member("etc/ld", tarfile.SYMTYPE, "/usr/ld.so"), b""),
    )
    upper = raw_layer(blobs, (member("trap/file"), b"mine"))
    unpack(image_of(blobs, lower, upper), tmp_path / "root")
    assert list((tmp_path / "outside").iterdir()) == []
    assert str((tmp_path / "root/etc/ld").readlink()) == "../usr/ld.so"


def test_a_link_with_dots_stays_inside(blobs, tmp_path):
    lower = raw_layer(blobs, (member("trap", tarfile.SYMTYPE, "../../.."), b""))
    upper = raw_layer(blobs, (member("trap/escaped"), b"x"))
    unpack(image_of(blobs, lower, upper), tmp_path / "deep" / "er" / "root")
    assert tree(tmp_path / "deep" / "er" / "root") == {"escaped": "x"}
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (member("../escaped"), "leads out"),
        (member("a/../../escaped"), "leads out"),
        (member("null", tarfile.CHRTYPE), "device"),
        (member("disk", tarfile.BLKTYPE), "device"),
        (member("pipe", tarfile.FIFOTYPE), "device or a pipe"),
        (member("h", tarfile.LNKTYPE, "/etc/passwd"), "no file before it"),
        (member("h", tarfile.LNKTYPE, "../../etc/passwd"), "leads out"),
        (member(".wh..."), "leads out|whiteout"),
    ],
)
def test_hostile_members_are_refused_and_nothing_is_left(blobs, tmp_path, bad, message):
    layer = raw_layer(blobs, (member("fine"), b"x"), (bad, b""))
    with pytest.raises(Corrupt, match=message):
        unpack(image_of(blobs, layer), tmp_path / "root")
    assert [path.name for path in tmp_path.iterdir()] == ["blobs"]


def header(kind, size=0, name="x", **fields):
    """One tar header, which may lie."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def pax(*records):
    """A pax header with records, and what a reader takes for the member's content."""
    body = b""
    for key, value in records:
        text = f" {key}={value}\n".encode()
        length = len(text) + 1
        while len(str(length)) + len(text) != length:
            length = len(str(length)) + len(text)
        body += str(length).encode() + text
    return header(tarfile.XHDTYPE, len(body)) + body + bytes(-len(body) % 512)


FILE = header(tarfile.REGTYPE, name="file")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header(tarfile.XHDTYPE, 8 * 2**30), "header of 8589934592 bytes"),
        (header(tarfile.XGLTYPE, 8 * 2**30), "header of 8589934592 bytes"),
        (header(tarfile.GNUTYPE_LONGNAME, 8 * 2**30), "header of 8589934592 bytes"),
        (header(tarfile.GNUTYPE_LONGLINK, 8 * 2**30), "header of 8589934592 bytes"),
        (header(tarfile.GNUTYPE_SPARSE, 0), "sparse"),
        (pax(("GNU.sparse.map", "0,1"), ("GNU.sparse.size", "1")) + FILE, "sparse"),
        (pax(("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")) + FILE, "sparse"),
        (pax(("a", "b")) * 2000 + FILE, "headers of headers"),
        (header(tarfile.REGTYPE, 2**62, name="huge"), "more than is allowed"),
    ],
)
def test_headers_that_would_take_the_memory_are_refused(blobs, tmp_path, data, message):
    descriptor = blobs.put(data + bytes(1024), LAYER)
    layer = Layer(descriptor, descriptor.digest)
    with pytest.raises(Corrupt, match=message):
        unpack(image_of(blobs, layer), tmp_path / "root")
    assert [path.name for path in tmp_path.iterdir()] == ["blobs"]


def test_a_circle_of_links_ends(blobs, tmp_path):
    layer = raw_layer(
        blobs,
        (member("a", tarfile.SYMTYPE, "b"), b""),
        (member("b", tarfile.SYMTYPE, "a"), b""),
        (member("a/x"), b""),
    )
    with pytest.raises(Corrupt, match="circle"):
        unpack(image_of(blobs, layer), tmp_path / "root")


def test_no_set_uid_and_always_removable(blobs, tmp_path):
    layer = raw_layer(
        blobs,
        (member("su", mode=0o4755), b"x"),
        (member("locked", tarfile.DIRTYPE, mode=0o000), b""),
        (member("locked/x"), b"x"),
    )
    unpack(image_of(blobs, layer), tmp_path / "root")
    assert (tmp_path / "root/su").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "root/locked").stat().st_mode & 0o700 == 0o700


def test_a_bomb_is_stopped(blobs, tmp_path):
    layer = write_layer([Entry("zeros", content=bytes(100_000))], blobs)
    with pytest.raises(Corrupt, match="more than is allowed"):
        unpack(image_of(blobs, layer), tmp_path / "root", size_limit=50_000)


def test_damaged_compression_is_told(blobs, tmp_path):
    good = blobs.path(write_layer([Entry("a", content=b"x" * 999)], blobs).descriptor.digest)
    data = bytearray(good.read_bytes())
    data[20:40] = bytes(20)
    descriptor = blobs.put(bytes(data), LAYER)
    with pytest.raises(Corrupt):
        unpack(image_of(blobs, Layer(descriptor, descriptor.digest)), tmp_path / "root")


def test_a_folder_that_exists_is_left_alone(blobs, tmp_path):
    (tmp_path / "root").mkdir()
    with pytest.raises(OciError, match="exists already"):
        unpack(image_of(blobs, write_layer([], blobs)), tmp_path / "root")


def test_a_missing_layer_is_told(blobs, tmp_path):
    missing = Layer(Descriptor(LAYER, "sha256:" + "0" * 64, 10), "sha256:" + "0" * 64)
    with pytest.raises(Corrupt, match="is missing"):
        unpack(image_of(blobs, missing), tmp_path / "root")
