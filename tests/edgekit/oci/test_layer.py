"""Layers: the same content gives the same bytes."""

import gzip
import io
import subprocess
import tarfile

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import OciError
from edgekit.oci.blobs import Blobs
from edgekit.oci.descriptor import LAYER, LAYER_GZIP, LAYER_ZSTD, digest_of
from edgekit.oci.layer import Entry, ZipMember, write_layer

ENTRIES = [
    Entry("usr/bin/tool", content=b"#!/bin/sh\n", mode=0o755),
    Entry("usr/bin/link", "symlink", target="tool"),
    Entry("var/empty", "directory", mode=0o700, owner=1000),
    Entry("a" * 60 + "/" + "b" * 120, content=b"a long name"),
]


def members(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def unpacked(blobs, layer):
    data = blobs.path(layer.descriptor.digest).read_bytes()
    return data if layer.descriptor.media_type == LAYER else gzip.decompress(data)


def test_parents_are_added_and_stand_first(blobs):
    names = list(members(unpacked(blobs, write_layer(ENTRIES, blobs))))
    assert names.index("usr") < names.index("usr/bin") < names.index("usr/bin/link")


def test_nothing_of_the_host_is_in_it(blobs):
    for member in members(unpacked(blobs, write_layer(ENTRIES, blobs))).values():
        assert (member.mtime, member.uname, member.gname) == (0, "", "")


def test_modes_and_owners_are_those_given(blobs):
    found = members(unpacked(blobs, write_layer(ENTRIES, blobs)))
    assert (found["var/empty"].mode, found["var/empty"].uid) == (0o700, 1000)
    assert (found["usr/bin/tool"].mode, found["usr"].mode) == (0o755, 0o755)


def test_gzip_reads_and_its_header_has_no_time(blobs):
    layer = write_layer(ENTRIES, blobs)
    data = blobs.path(layer.descriptor.digest).read_bytes()
    assert data[:10] == bytes.fromhex("1f8b08000000000000ff")
    assert digest_of(gzip.decompress(data)) == layer.diff_id
    assert layer.descriptor.media_type == LAYER_GZIP


@pytest.mark.parametrize("length", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 5 * 2**20 + 7])
def test_blocks_compressed_side_by_side_are_one_stream(blobs, length):
    content = bytes(index * index % 251 for index in range(1000)) * (length // 1000 + 1)
    layer = write_layer([Entry("data", content=content[:length])], blobs)
    data = blobs.path(layer.descriptor.digest).read_bytes()
    assert digest_of(gzip.decompress(data)) == layer.diff_id
    # the dictionary of the block before is used: the content repeats
    assert len(data) < 1000 + length // 50


def test_the_bytes_do_not_depend_on_the_number_of_threads(blobs, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    from edgekit.oci import compression as module

    content = bytes(range(256)) * 20_000
    expected = write_layer([Entry("data", content=content)], blobs)
    with ThreadPoolExecutor(1) as one:
        monkeypatch.setattr(module, "_compressors", lambda: one)
        assert write_layer([Entry("data", content=content)], blobs) == expected


def test_zstd_reads(blobs):
    layer = write_layer(ENTRIES, blobs, "zstd")
    data = blobs.path(layer.descriptor.digest).read_bytes()
    plain = zstandard.ZstdDecompressor().stream_reader(data).read()
    assert digest_of(plain) == layer.diff_id
    assert layer.descriptor.media_type == LAYER_ZSTD


def test_the_diff_id_does_not_depend_on_the_compression(blobs):
    ids = {write_layer(ENTRIES, blobs, each).diff_id for each in ("gzip", "zstd", "none")}
    assert len(ids) == 1


def test_gnu_tar_agrees(blobs):
    layer = write_layer(ENTRIES, blobs)
    listing = subprocess.run(
        ["tar", "-tzf", str(blobs.path(layer.descriptor.digest))], capture_output=True, text=True
    ).stdout.splitlines()
    assert [name.rstrip("/") for name in listing] == list(members(unpacked(blobs, layer)))


names = st.from_regex(r"\A[a-zé]{1,4}(/[a-z]{1,4}){0,2}\Z")


@given(st.dictionaries(names, st.binary(max_size=20), max_size=6), st.randoms())
def test_the_order_of_entries_does_not_matter(tmp_path_factory, files, random):
    entries = [Entry(f"{path}.txt", content=content) for path, content in files.items()]
    blobs = Blobs(tmp_path_factory.mktemp("blobs"))
    first = write_layer(entries, blobs)
    random.shuffle(entries)
    assert write_layer(entries, blobs) == first


@pytest.mark.parametrize("path", ["", "/etc", "a/../b", "a//b", "./a", "a/", "a\0b"])
def test_no_path_leads_outside(path):
    with pytest.raises(OciError):
        Entry(path)


def test_one_path_is_one_thing(blobs):
    with pytest.raises(OciError, match="two different things at a"):
        write_layer([Entry("a", content=b"1"), Entry("a", content=b"2")], blobs)


@pytest.mark.parametrize("content", [ZipMember(__file__, "x"), "missing"])
def test_a_missing_source_is_named(blobs, tmp_path, content):
    source = tmp_path / "gone" if content == "missing" else content
    with pytest.raises(OciError, match=r"cannot read app/score\.py"):
        write_layer([Entry("app/score.py", content=source)], blobs)
    assert not list((blobs.folder / "sha256").iterdir())
