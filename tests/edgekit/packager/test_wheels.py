"""Wheels: laid out as an installer does, trimmed, resolved for the target and not the host."""

import io
import tarfile
import zipfile

import pytest

from edgekit.errors import Corrupt, ImageError
from edgekit.oci.descriptor import Platform
from edgekit.packager.sdist import PureSdist, make_wheel, skipped_source
from edgekit.packager.store import Store
from edgekit.packager.wheels import (
    lock_wheels,
    read_requirements,
    target_options,
    wheel_entries,
)

from .conftest import wheel

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def paths(tmp_path, files):
    path = tmp_path / "x-1-py3-none-any.whl"
    path.write_bytes(wheel("x", "1", files))
    return {entry.path for entry in wheel_entries(path)}


def test_both_libraries_become_one_and_scripts_stay_out(tmp_path):
    found = paths(
        tmp_path,
        {"x/a.py": "", "x-1.data/purelib/x/b.py": "", "x-1.data/platlib/x/c.so": "",
         "x-1.data/scripts/tool": "", "x-1.data/headers/x.h": ""},
    )  # fmt: skip
    assert found == {
        *(f"opt/edgekit/lib/x/{name}" for name in ("a.py", "b.py", "c.so")),
        "opt/edgekit/lib/x-1.dist-info/METADATA",
    }


def test_what_inference_does_not_use_is_trimmed(tmp_path):
    found = paths(
        tmp_path,
        {"numpy/tests/t.py": "", "numpy/a.pyi": "", "numpy/x.h": "", "onnxruntime/tools/t.py": "",
         "onnxruntime/capi/x.so": ""},
    )  # fmt: skip
    assert found == {
        "opt/edgekit/lib/onnxruntime/capi/x.so",
        "opt/edgekit/lib/x-1.dist-info/METADATA",
    }


@pytest.mark.parametrize("name", ["../x.py", "/x.py", "a\\..\\b.py", "x-1.data/purelib/../x.py"])
def test_no_wheel_reaches_outside(tmp_path, name):
    with pytest.raises(Corrupt, match="leads outside"):
        paths(tmp_path, {name: ""})


def test_what_is_no_wheel_is_told(tmp_path):
    (tmp_path / "x.whl").write_bytes(b"text")
    with pytest.raises(Corrupt, match=r"the wheel x.whl does not read"):
        wheel_entries(tmp_path / "x.whl")


def test_all_tags_that_the_targets_c_library_runs():
    options = target_options("linux/arm64", "3.11", (2, 36))
    assert options[options.index("--platform") + 1] == "manylinux_2_36_aarch64"
    assert "manylinux_2_17_aarch64" in options
    assert "manylinux_2_16_aarch64" not in options
    assert "manylinux1_x86_64" in target_options("linux/amd64", "3.11", (2, 36))


SDIST = PureSdist("pure-thing", "1.0", "", "src")


def sdist(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"pure-thing-1.0/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


PURE = {
    "PKG-INFO": b"Metadata-Version: 2.1\nName: pure-thing\nVersion: 1.0\n",
    "setup.py": b"raise SystemExit('this must never run')\n",
    "LICENSE.txt": b"free",
    "src/thing/__init__.py": b"answer = 42\n",
    "src/pure_thing.egg-info/SOURCES.txt": b"",
    "tests/test_thing.py": b"",
}


def test_a_wheel_of_a_pure_source_is_its_files():
    with zipfile.ZipFile(io.BytesIO(make_wheel(sdist(PURE), SDIST))) as archive:
        assert archive.namelist() == [
            "pure_thing-1.0.dist-info/METADATA",
            "pure_thing-1.0.dist-info/RECORD",
            "pure_thing-1.0.dist-info/WHEEL",
            "pure_thing-1.0.dist-info/licenses/LICENSE.txt",
            "thing/__init__.py",
        ]


def test_it_is_the_same_each_time():
    assert make_wheel(sdist(PURE), SDIST) == make_wheel(sdist(dict(reversed(PURE.items()))), SDIST)


@pytest.mark.parametrize("name", ["src/thing/fast.c", "src/thing/x.so", "src/../../x.py"])
def test_a_source_with_more_than_python_is_refused(name):
    with pytest.raises(Corrupt, match="not plain Python"):
        make_wheel(sdist(PURE | {name: b""}), SDIST)


@pytest.mark.parametrize("digest", ["", "#sha256=0123", "#egg=x"])
def test_the_index_may_or_may_not_name_the_digest_of_a_source(digest):
    output = "".join(
        f"  Skipping link: No sources permitted for pure-thing: https://index.example/f8/{file}"
        f"{digest} (from https://index.example/simple/pure-thing/) (requires-python:>=3.7)\n"
        for file in ("pure-thing-1.0.1.tar.gz", "pure-thing-1.0.tar.gz", "pure-thing-1.1.tar.gz")
    )
    assert skipped_source(SDIST, output) == "https://index.example/f8/pure-thing-1.0.tar.gz"


def test_a_source_that_no_index_has():
    assert skipped_source(SDIST, "Looking in indexes: https://index.example/simple\n") is None


@pytest.fixture
def only_links(tmp_path, monkeypatch):
    """Pip as configured by a user without any index: a folder of wheels alone."""
    folder = tmp_path / "links"
    folder.mkdir()
    for variable in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr("edgekit.packager.wheels.pure_wheels", lambda _store: folder)
    for tag in ("cp311-cp311-manylinux_2_28_x86_64", "cp311-cp311-manylinux_2_28_aarch64"):
        (folder / f"fast-1.0-{tag}.whl").write_bytes(installable("fast", tag, "slow"))
    (folder / "slow-2.0-py3-none-any.whl").write_bytes(installable("slow", "py3-none-any"))
    return folder


def installable(name, tag, requires=""):
    version = "1.0" if requires else "2.0"
    out = io.BytesIO()
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(f"{name}.py", "")
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        archive.writestr(
            f"{info}/METADATA", metadata + (f"Requires-Dist: {requires}\n" if requires else "")
        )
        archive.writestr(
            f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return out.getvalue()


def resolve(tmp_path, requirements, platforms=(AMD64, ARM64), **more):
    store = Store(tmp_path / "cache", tmp_path / "locks")
    return lock_wheels("test", requirements, platforms, "3.11", (2, 36), store, **more)


@pytest.mark.usefixtures("only_links")
def test_pip_resolves_for_each_target(tmp_path):
    lock = resolve(tmp_path, ["fast"])
    assert {name: [each.file for each in found] for name, found in lock.platforms.items()} == {
        "linux/amd64": [
            "fast-1.0-cp311-cp311-manylinux_2_28_x86_64.whl",
            "slow-2.0-py3-none-any.whl",
        ],
        "linux/arm64": [
            "fast-1.0-cp311-cp311-manylinux_2_28_aarch64.whl",
            "slow-2.0-py3-none-any.whl",
        ],
    }


def test_the_lock_is_kept_and_a_requirement_changes_it(only_links, tmp_path):
    first = resolve(tmp_path, ["fast"])
    (only_links / "slow-2.1-py3-none-any.whl").write_bytes(b"")
    assert resolve(tmp_path, ["fast"]) == first
    assert [
        each.name for each in resolve(tmp_path, ["slow==2.0"], [AMD64]).platforms["linux/amd64"]
    ] == ["slow"]


def test_a_requirement_without_a_wheel_for_the_target_is_named(only_links, tmp_path):
    (only_links / "fast-1.0-cp311-cp311-manylinux_2_28_aarch64.whl").unlink()
    with pytest.raises(ImageError, match=r"pip finds no wheels for linux/arm64: .*fast"):
        resolve(tmp_path, ["fast"])
    assert not (tmp_path / "locks").exists()


def test_a_target_without_onnxruntime_is_refused(tmp_path):
    with pytest.raises(ImageError, match="no wheels for linux/arm/v7"):
        resolve(tmp_path, ["fast"], [Platform("linux", "arm", "v7")])


@pytest.mark.usefixtures("only_links")
def test_what_is_below_stays_and_is_not_brought_again(tmp_path):
    below = resolve(tmp_path, ["slow==2.0"], [AMD64])
    above = resolve(tmp_path, ["fast"], [AMD64], under=below)
    assert [each.name for each in above.platforms["linux/amd64"]] == ["fast"]


@pytest.mark.usefixtures("only_links")
def test_a_conflict_with_what_is_below_is_told(tmp_path):
    below = resolve(tmp_path, ["slow==2.0"], [AMD64])
    with pytest.raises(ImageError, match="pip finds no wheels for linux/amd64"):
        resolve(tmp_path, ["slow>=3"], [AMD64], under=below)


def test_requirements_are_names_with_versions(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("# mine\npillow>=10  # pictures\n\nscipy[extra]==1.2; python_version > '3'\n")
    assert read_requirements(path) == ("pillow>=10", "scipy[extra]==1.2; python_version > '3'")


@pytest.mark.parametrize(
    "line", ["-e .", "--index-url http://x", "./local", "pkg @ http://x/y.whl", "git+http://x/y"]
)
def test_requirements_that_would_run_code_are_refused(tmp_path, line):
    path = tmp_path / "requirements.txt"
    path.write_text(f"numpy\n{line}\n")
    with pytest.raises(ImageError, match=r"requirements\.txt:2: .* is no name with versions"):
        read_requirements(path)
