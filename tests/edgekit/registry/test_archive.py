import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.errors import Conflict, RegistryError
from edgekit.registry import ModelRef, Query, Registry
from edgekit.workspace import Workspace

DIGITS = Path(__file__).parents[3] / "examples" / "digits" / "digits.onnx"


def fill(registry: Registry, digits: Path, folder: Path) -> None:
    """Register something of everything."""
    registry.register(digits, "digits", tags={"a": "1"}, properties={"p": "ü"})
    registry.register(digits, "digits")
    ref = registry.register(digits, "a-child", parent=ModelRef("digits", 1)).ref
    registry.set_alias(ModelRef("digits", 1), "production", protected=True)
    registry.record_profile(ref, {"p50": 0.001})
    registry.record_image(
        ref, digest="sha256:" + "0" * 64, reference="r", platforms=["linux/arm64"], tags={"x": "y"}
    )
    (folder / "package").write_bytes(b"npu")
    registry.record_graph(
        folder / "package", model=ref, board="b", cycles=2**40, proof={"compared": 3}
    )
    (folder / "trees").write_bytes(b"trees")
    registry.register(folder / "trees", "trees", framework="scikit-learn")
    registry.delete(ModelRef("digits", 2))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A registry with something of everything; no test changes it."""
    folder = tmp_path_factory.mktemp("full")
    registry = Registry.open(Workspace.create(folder / "workspace"))
    fill(registry, DIGITS, folder)
    return registry


@pytest.fixture
def archive(full: Registry, tmp_path: Path) -> Path:
    full.export_archive(tmp_path / "archive.tar")
    return tmp_path / "archive.tar"


@pytest.fixture
def empty(tmp_path: Path) -> Registry:
    return Registry.open(Workspace.create(tmp_path / "empty"))


def everything(registry: Registry) -> list[Any]:
    names = ("digits", "a-child", "trees")
    return [
        registry.models(),
        registry.models(Query(deleted=True)),
        registry.images(),
        registry.graphs(),
        [registry.profiles(ModelRef(name)) for name in names],
    ]


def test_all_of_it_comes_back(full: Registry, archive: Path, empty: Registry, digits: Path) -> None:
    assert empty.import_archive(archive) == 4

    assert everything(empty) == everything(full)
    assert empty.model_file(ModelRef("a-child")).read_bytes() == digits.read_bytes()
    assert empty.graph_file(empty.graphs()[0]).read_bytes() == b"npu"


def test_any_database_gives_and_takes_the_same(
    registry: Registry, digits: Path, empty: Registry, tmp_path: Path
) -> None:
    fill(registry, digits, tmp_path)

    registry.export_archive(tmp_path / "archive.tar")
    empty.import_archive(tmp_path / "archive.tar")

    assert everything(empty) == everything(registry)


def test_numbers_go_on_where_they_were(archive: Path, empty: Registry, digits: Path) -> None:
    empty.import_archive(archive)

    assert empty.register(digits, "digits").version == 3
    assert empty.restore(ModelRef("digits", 2)).version == 2


def test_the_same_registry_gives_the_same_bytes(
    archive: Path, empty: Registry, tmp_path: Path
) -> None:
    empty.import_archive(archive)
    empty.export_archive(tmp_path / "again.tar")

    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()


def test_names_that_are_taken_are_refused_and_nothing_changes(
    archive: Path, full: Registry, empty: Registry, digits: Path
) -> None:
    before = everything(full)
    with pytest.raises(Conflict, match="already: a-child, digits, trees"):
        full.import_archive(archive)
    assert everything(full) == before

    empty.register(digits, "trees")
    with pytest.raises(Conflict, match="already: trees"):
        empty.import_archive(archive)
    assert [str(version.ref) for version in empty.models()] == ["trees:1"]


def test_an_archive_joins_models_of_other_names(
    archive: Path, empty: Registry, digits: Path
) -> None:
    empty.register(digits, "other")

    empty.import_archive(archive)

    assert len(empty.models()) == 4


def test_an_archive_that_cannot_be_written_leaves_nothing(full: Registry, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())

    with pytest.raises(RegistryError, match=r"writing .*archive\.tar"):
        full.export_archive(tmp_path / "missing" / "archive.tar")

    assert sorted(tmp_path.iterdir()) == before


Change = Callable[[dict[str, Any]], object]


def rewrite(archive: Path, change: Change) -> None:
    """Change the record inside, and leave the files as they are."""
    with tarfile.open(archive) as old:
        members = [(member, old.extractfile(member).read()) for member in old]  # type: ignore[union-attr] (all are files)
    record = json.loads(members[0][1])
    change(record)
    text = json.dumps(record).encode()
    members[0][0].name = f"registry/sha256/{hashlib.sha256(text).hexdigest()}"
    with tarfile.open(archive, "w") as new:
        for member, data in [(members[0][0], text), *members[1:]]:
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))


CHANGES: dict[str, Change] = {
    "Input should be 'edgekit-registry/1'": lambda r: r.update(format="other"),
    "Extra inputs": lambda r: r.update(more=1),
    "match pattern": lambda r: r["models"][0].update(name="../x"),
    "beyond its counter": lambda r: r["models"][0].update(counter=0),
    "used but not there": lambda r: r["images"][0].update(model=["nobody", 1]),
    "there twice": lambda r: r["models"].append(r["models"][0]),
    "each other's parents": lambda r: r["models"][1]["versions"][0].update(parent=["digits", 1]),
    "no name for a tag": lambda r: r["models"][0]["versions"][0]["tags"].update({"a b": "c"}),
    "other inputs or outputs": lambda r: r["models"][1]["versions"][0]["inputs"].clear(),
    "another size than recorded": lambda r: r["graphs"][0].update(size=1),
    "does not belong there": lambda r: r["graphs"].clear(),
    "is missing": lambda r: r["graphs"].append({**r["graphs"][0], "digest": "sha256:" + "f" * 64}),
}


@pytest.mark.parametrize("message", CHANGES)
def test_an_altered_record_is_refused(archive: Path, empty: Registry, message: str) -> None:
    rewrite(archive, CHANGES[message])

    with pytest.raises(RegistryError) as caught:
        empty.import_archive(archive)

    assert message in str(caught.value)
    assert empty.models() == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_only_plain_files_are_taken(archive: Path, empty: Registry, kind: bytes) -> None:
    with tarfile.open(archive, "a") as tar:
        member = tarfile.TarInfo("../../outside")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)

    with pytest.raises(RegistryError, match=r"outside' does not belong there"):
        empty.import_archive(archive)

    assert empty.models() == []


@pytest.mark.parametrize("content", [b"", b"nonsense" * 1000, bytes(1024)])
def test_what_is_no_archive_is_named(empty: Registry, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(content)

    with pytest.raises(RegistryError, match=r"x\.tar is no whole archive"):
        empty.import_archive(tmp_path / "x.tar")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), cut=st.booleans())
def test_a_damaged_archive_is_taken_as_it_was_or_not_at_all(
    archive: Path, full: Registry, tmp_path: Path, place: float, cut: bool
) -> None:
    data = archive.read_bytes()
    at = int(len(data) * place)
    damaged = tmp_path / "damaged.tar"
    damaged.write_bytes(data[:at] + (b"" if cut else bytes([data[at] ^ 0xFF]) + data[at + 1 :]))
    with tempfile.TemporaryDirectory() as folder:
        other = Registry.open(Workspace.create(Path(folder)))
        refused = ""
        try:
            other.import_archive(damaged)
        except RegistryError as error:
            refused = str(error)

        if refused:
            assert (other.models(), other.graphs(), "\n" in refused) == ([], [], False)
        else:  # the damage was in the padding
            assert everything(other) == everything(full)
