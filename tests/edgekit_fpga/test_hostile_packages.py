"""Packages that somebody made up: whatever they hold, they are refused in one line, or they run."""

import copy
import dataclasses
import hashlib
import io
import json
import os
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit_fpga import compile_model, read_package, run
from edgekit_fpga.errors import FpgaError, PackageError
from edgekit_fpga.package import FILES, MANIFEST, package_from_bytes
from edgekit_fpga.profiling import profile
from edgekit_fpga.timeline import svg
from tests.edgekit_fpga.graphs import small_net

PACKAGE = compile_model(small_net(0))
DATA = PACKAGE.to_bytes()
IMAGES = {"x": np.zeros((1, 1, 8, 8), np.float32)}
SLOW = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def archive(manifest, files=None):
    """The bytes of a package with this manifest, its digests made right."""
    files = {**PACKAGE.program.files(), **(files or {})}
    manifest = {**manifest, "files": {n: hashlib.sha256(files[n]).hexdigest() for n in FILES}}
    text = json.dumps(manifest, indent=1, sort_keys=True).encode() + b"\n"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as made:
        for name, data in [(MANIFEST, text), *((name, files[name]) for name in FILES)]:
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr, entry.create_system = 0o644 << 16, 3
            made.writestr(entry, data)
    return stream.getvalue()


def refused_or_run(data):
    """All that is done with a package, and the one line it may be refused with."""
    said = ""
    try:
        package = package_from_bytes(data)
        assert svg(package)
        assert profile(package)
        seen = {}
        outputs = run(package, IMAGES, observe=seen.__setitem__)
        assert set(outputs) == set(package.manifest["outputs"])
    except FpgaError as error:
        said = str(error)
    assert "\n" not in said
    return said


def places(value, path=()):
    """The path of every value in a JSON document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))
        else:
            yield (*path, key)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 70)
    | st.sampled_from([2**31, 2**63, -(2**63), 10**30])
    | st.floats()
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
PLACES = [path for path in places(dict(PACKAGE.manifest)) if path and path[0] != "files"]


def test_what_is_unchanged_is_read():
    assert archive(PACKAGE.manifest) == DATA
    assert refused_or_run(DATA) == ""


@SLOW
@given(st.sampled_from(PLACES), JSON)
def test_any_value_anywhere_in_the_manifest(path, value):
    manifest = copy.deepcopy(dict(PACKAGE.manifest))
    inner = manifest
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    refused_or_run(archive(manifest))


@SLOW
@given(st.sampled_from(PLACES), st.booleans())
def test_any_key_missing_or_twice(path, twice):
    manifest = copy.deepcopy(dict(PACKAGE.manifest))
    inner = manifest
    for key in path[:-1]:
        inner = inner[key]
    if twice and isinstance(inner, list):
        inner.append(inner[path[-1]])
    elif twice:
        inner[f"{path[-1]}2"] = inner[path[-1]]
    else:
        del inner[path[-1]]
    refused_or_run(archive(manifest))


@SLOW
@given(st.sampled_from(FILES), st.data())
def test_any_byte_of_a_file_with_its_digest_made_right(name, data):
    content = bytearray(PACKAGE.program.files()[name])
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    refused_or_run(archive(PACKAGE.manifest, {name: bytes(content)}))


@SLOW
@given(st.sampled_from(FILES), st.integers(0, 3000), st.binary(max_size=300))
def test_any_length_of_a_file(name, length, more):
    content = PACKAGE.program.files()[name][:length] + more
    refused_or_run(archive(PACKAGE.manifest, {name: content}))


@SLOW
@given(st.integers(0, len(DATA)), st.integers(0, len(DATA)), st.binary(max_size=40))
def test_any_cut_and_any_insertion(start, stop, between):
    data = DATA[: min(start, stop)] + between + DATA[max(start, stop) :]
    if data != DATA:
        with pytest.raises(FpgaError):
            package_from_bytes(data)


@SLOW
@given(st.integers(1, 400), st.binary(min_size=1, max_size=8))
def test_any_bytes_in_the_archives_directory(back, change):
    place = len(DATA) - back
    data = DATA[:place] + change + DATA[place + len(change) :]
    if data != DATA:
        with pytest.raises(FpgaError):
            package_from_bytes(data)


def zipped(entries, **options):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", **options) as made:
        for name, data in entries:
            made.writestr(name, data)
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        zipped([(MANIFEST, b" " * (1 << 24))], compression=zipfile.ZIP_DEFLATED),
        zipped(
            [(MANIFEST, b"{}"), *((n, b"\0" * (1 << 24)) for n in FILES)],
            compression=zipfile.ZIP_DEFLATED,
        ),
        zipped([("../../manifest.json", b"{}"), *((n, b"") for n in FILES)]),
        zipped([("/etc/passwd", b"{}"), *((n, b"") for n in FILES)]),
        zipped([(MANIFEST, b"[" * 100_000), *((n, b"") for n in FILES)]),
        zipped([(MANIFEST, b"9" * 100_000), *((n, b"") for n in FILES)]),
        zipped([(MANIFEST, b"\xff\xfe"), *((n, b"") for n in FILES)]),
        zipped([(MANIFEST, b"[]"), *((n, b"") for n in FILES)]),
        DATA + DATA,
    ],
    ids=["bomb", "bombs", "upwards", "absolute", "deep", "digits", "text", "list", "twice"],
)
def test_archives_that_are_no_package(data):
    with pytest.raises(PackageError) as error:
        package_from_bytes(data)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("board.memory.activation_granules", 1 << 40, "of activation memory, at most"),
        ("board.memory.weight_words", 1 << 40, "of weight memory, at most"),
        ("board.clock_mhz", 0, "clock_mhz is 0"),
        ("macs", 7, "its macs are not those of its layers"),
        ("cycles.total", 1, "its cycles are not those of its program"),
        ("before.0.attributes.scale", float("nan"), "by a scale of nan"),
        ("before.0.attributes.scale", 0.0, "by a scale of 0.0"),
        ("before.0.attributes.scale", -1.0, "by a scale of -1.0"),
        ("before.0.operator", "Exec", "no CPU operation 'Exec'"),
        ("inputs.0.shape", [1, 8, 9], "nothing makes the NPU's input"),
        ("outputs", [], "nothing makes the package's outputs"),
        ("npu.inputs", ["nowhere"], "tensor nowhere is not described"),
    ],
)
def test_what_a_lie_is_answered_with(where, value, message):
    manifest = json.loads(json.dumps(PACKAGE.manifest))
    inner = manifest
    *path, last = [int(key) if key.isdigit() else key for key in where.split(".")]
    for key in path:
        inner = inner[key]
    inner[last] = value
    with pytest.raises(FpgaError, match=message):
        package_from_bytes(archive(manifest))


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.npu")
    for path in (tmp_path / "pipe.npu", tmp_path, "/dev/zero", "\0"):
        with pytest.raises(PackageError):
            read_package(path)


def test_a_program_that_would_run_for_hours_is_refused():
    steps = list(PACKAGE.program.instructions)
    index = next(i for i, step in enumerate(steps) if getattr(step, "pool", 0))
    slow = dataclasses.replace(steps[index], out_height=8000, out_width=8, in_height=1)
    steps = [*steps[:index], *[slow] * 200, *steps[index:]]
    program = dataclasses.replace(PACKAGE.program, instructions=tuple(steps))
    with pytest.raises(FpgaError):
        package_from_bytes(archive(PACKAGE.manifest, program.files()))
