import hashlib
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edgekit.errors import InUse, ModelError, NotFound, RegistryError
from edgekit.registry import ArtefactQuery, ModelRef, Query, Registry, TensorSpec
from edgekit.workspace import Workspace

DIGEST = "sha256:" + "0" * 64


def refs(registry: Registry, query: Query | None = None) -> list[str]:
    return [str(version.ref) for version in registry.models(query)]


def test_a_registered_model_is_all_there(registry: Registry, digits: Path) -> None:
    registered = registry.register(digits, "digits", tags={"b": "1"}, properties={"p": "2"})

    assert registered.ref == ModelRef("digits", 1)
    assert registered.framework == "onnx"
    assert registered.size == digits.stat().st_size
    assert registered.digest == f"sha256:{hashlib.sha256(digits.read_bytes()).hexdigest()}"
    assert registered.inputs == (TensorSpec("image", "float32", ("N", 1, 8, 8)),)
    assert registered.outputs == (TensorSpec("logits", "float32", ("N", 10)),)
    assert (registered.tags, registered.properties) == ({"b": "1"}, {"p": "2"})
    assert registered.parent is None
    assert datetime.now(UTC) - registered.created < timedelta(minutes=1)
    assert registry.get(registered.ref) == registered
    assert registry.model_file(registered.ref).read_bytes() == digits.read_bytes()


def test_versions_count_up_and_the_name_alone_is_the_newest(
    registry: Registry, digits: Path
) -> None:
    for _ in range(3):
        registry.register(digits, "digits")

    assert refs(registry) == ["digits:1", "digits:2", "digits:3"]
    assert registry.get(ModelRef("digits")).version == 3


def test_what_is_registered_is_there_after_reopening(workspace: Workspace, digits: Path) -> None:
    registered = Registry.open(workspace).register(digits, "digits")

    assert Registry.open(workspace).models() == [registered]


def test_a_moved_workspace_still_works(workspace: Workspace, digits: Path, tmp_path: Path) -> None:
    registered = Registry.open(workspace).register(digits, "digits")
    moved = workspace.folder.rename(tmp_path / "moved")

    registry = Registry.open(replace(workspace, folder=moved))

    assert registry.model_file(registered.ref).read_bytes() == digits.read_bytes()


def test_a_file_of_another_framework_is_stored_as_it_is(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"anything")

    registered = registry.register(tmp_path / "model.pkl", "trees", framework="scikit-learn")

    assert (registered.inputs, registered.outputs) == ((), ())
    assert registry.model_file(registered.ref).read_bytes() == b"anything"


@pytest.mark.parametrize("name", ["Digits", "", "a/b", "a:1", "x" * 129])
def test_a_bad_name_is_refused_before_anything_is_stored(
    registry: Registry, workspace: Workspace, digits: Path, name: str
) -> None:
    with pytest.raises(RegistryError, match="no name for a model"):
        registry.register(digits, name)

    assert stored(workspace) == []


def test_what_is_no_model_leaves_nothing_behind(
    registry: Registry, workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("no model")

    with pytest.raises(ModelError, match=r"notes\.txt is no ONNX file"):
        registry.register(tmp_path / "notes.txt", "digits")
    with pytest.raises(ModelError, match="there is no file"):
        registry.register(tmp_path / "missing.onnx", "digits")

    assert registry.models() == []
    assert stored(workspace) == []


def test_a_parent_is_remembered_by_its_version(registry: Registry, digits: Path) -> None:
    registry.register(digits, "digits")

    child = registry.register(digits, "digits-int8", parent=ModelRef("digits"))

    assert child.parent == ModelRef("digits", 1)


def test_an_unknown_parent_is_refused(registry: Registry, digits: Path) -> None:
    with pytest.raises(NotFound, match="no model named nobody"):
        registry.register(digits, "digits", parent=ModelRef("nobody"))

    assert registry.models() == []


def test_not_found_says_what_there_is(registry: Registry, digits: Path) -> None:
    registry.register(digits, "digits")

    with pytest.raises(NotFound, match="no version 7 of digits") as caught:
        registry.get(ModelRef("digits", 7))
    assert caught.value.hint == "there are 1"
    with pytest.raises(NotFound, match="no model named digit") as caught:
        registry.get(ModelRef("digit"))
    assert "digits" in caught.value.hint


def test_searching(registry: Registry, digits: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    registry.register(digits, "a", tags={"stage": "trial"}, properties={"data": "uci"})
    registry.register(digits, "a", tags={"stage": "production"})
    registry.register(tmp_path / "x", "b", framework="other", tags={"stage": "trial"})

    assert refs(registry, Query(name="a")) == ["a:1", "a:2"]
    assert refs(registry, Query(latest=True)) == ["a:2", "b:1"]
    assert refs(registry, Query(tags={"stage": "trial"})) == ["a:1", "b:1"]
    assert refs(registry, Query(tags={"stage": None})) == ["a:1", "a:2", "b:1"]
    assert refs(registry, Query(properties={"data": "uci"})) == ["a:1"]
    assert refs(registry, Query(framework="other")) == ["b:1"]
    assert refs(registry, Query(tags={"stage": "trial"}, latest=True)) == ["b:1"]
    assert refs(registry, Query(name="nobody")) == []


def test_latest_is_the_newest_that_is_not_deleted(registry: Registry, digits: Path) -> None:
    registry.register(digits, "digits")
    registry.register(digits, "digits")
    registry.delete(ModelRef("digits", 2))

    assert refs(registry, Query(latest=True)) == ["digits:1"]
    assert registry.get(ModelRef("digits")).version == 1


def test_tags_are_set_replaced_and_removed(registry: Registry, digits: Path) -> None:
    ref = registry.register(digits, "digits", tags={"a": "1", "b": "2"}).ref

    registry.tag(ref, {"a": "3", "b": None, "c": "4"})

    assert registry.get(ref).tags == {"a": "3", "c": "4"}


def test_a_number_is_never_given_twice(registry: Registry, digits: Path) -> None:
    registry.register(digits, "digits")
    registry.delete(ModelRef("digits", 1))

    assert registry.register(digits, "digits").version == 2


def test_deleting_needs_a_version(registry: Registry, digits: Path) -> None:
    registry.register(digits, "digits")

    with pytest.raises(RegistryError, match="which version"):
        registry.delete(ModelRef("digits"))


def test_a_version_in_use_is_not_deleted_and_its_users_are_named(
    registry: Registry, digits: Path, tmp_path: Path
) -> None:
    ref = registry.register(digits, "digits").ref
    child = registry.register(digits, "small", parent=ref).ref
    registry.record_image(ref, digest=DIGEST, reference="host/digits:1", platforms=["linux/amd64"])
    (tmp_path / "package").write_bytes(b"npu")
    graph = registry.record_graph(
        tmp_path / "package", model=ref, board="ecp5-85f", cycles=9, proof={}
    )

    with pytest.raises(InUse) as caught:
        registry.delete(ref)

    assert str(caught.value) == (
        "digits:1 is used by model small:1, image host/digits:1, "
        f"FPGA package {graph.digest[:19]} for ecp5-85f"
    )
    registry.delete(child)
    registry.delete_image(DIGEST)
    registry.delete_graph(graph.digest)
    registry.delete(ref)
    assert registry.models() == []


def test_images_are_recorded_and_found(registry: Registry, digits: Path) -> None:
    ref = registry.register(digits, "digits").ref

    registry.record_image(
        ModelRef("digits"),
        digest=DIGEST,
        reference="host/digits:1",
        platforms=["linux/amd64", "linux/arm64"],
        tags={"a": "1"},
        properties={"p": "2"},
    )

    (image,) = registry.images()
    assert image.model == ref
    assert image.platforms == ("linux/amd64", "linux/arm64")
    assert (image.tags, image.properties) == ({"a": "1"}, {"p": "2"})
    assert registry.images(ArtefactQuery(model=ModelRef("digits"))) == [image]
    assert registry.images(ArtefactQuery(model=ModelRef("digits", 2))) == []
    assert registry.images(ArtefactQuery(digest=DIGEST)) == [image]


def test_an_image_recorded_twice_is_one(registry: Registry, digits: Path) -> None:
    ref = registry.register(digits, "digits").ref
    for _ in range(2):
        registry.record_image(ref, digest=DIGEST, reference="oci:out", platforms=["linux/amd64"])

    assert len(registry.images()) == 1


def test_an_image_of_an_unknown_model_is_refused(registry: Registry) -> None:
    with pytest.raises(NotFound):
        registry.record_image(ModelRef("x"), digest=DIGEST, reference="r", platforms=[])
    with pytest.raises(RegistryError, match="no sha256 digest"):
        registry.record_image(ModelRef("x"), digest="md5:0", reference="r", platforms=[])
    with pytest.raises(NotFound):
        registry.delete_image(DIGEST)


def test_graphs_are_stored_and_found(registry: Registry, digits: Path, tmp_path: Path) -> None:
    ref = registry.register(digits, "digits").ref
    (tmp_path / "package").write_bytes(b"npu")

    graph = registry.record_graph(
        tmp_path / "package", model=ref, board="ecp5-85f", cycles=9, proof={"compared": 450}
    )

    assert (graph.model, graph.cycles, graph.proof) == (ref, 9, {"compared": 450})
    assert registry.graphs(ArtefactQuery(model=ref, board="ecp5-85f")) == [graph]
    assert registry.graphs(ArtefactQuery(board="other")) == []
    assert registry.graph_file(graph).read_bytes() == b"npu"


def test_a_copy_is_whole_or_not_there(registry: Registry, digits: Path, tmp_path: Path) -> None:
    ref = registry.register(digits, "digits").ref

    registry.copy_model(ref, tmp_path / "copy.onnx")
    with pytest.raises(RegistryError, match=r"writing .*copy\.onnx"):
        registry.copy_model(ref, tmp_path / "missing" / "copy.onnx")

    assert (tmp_path / "copy.onnx").read_bytes() == digits.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.onnx", "workspace"]


def stored(workspace: Workspace) -> list[Path]:
    return [path for path in (workspace.folder / "blobs").rglob("*") if path.is_file()]


def test_profiles_stay_with_their_version(registry: Registry, digits: Path) -> None:
    ref = registry.register(digits, "digits").ref
    registry.register(digits, "digits")
    registry.record_profile(ref, {"p50": 0.001})
    registry.record_profile(ref, {"p50": 0.002})

    assert [record.measured for record in registry.profiles(ref)] == [
        {"p50": 0.001},
        {"p50": 0.002},
    ]
    assert len(registry.profiles(ModelRef("digits"))) == 2
    assert registry.profiles(ModelRef("digits", 2)) == []


def test_an_alias_finds_what_was_made_from_its_version(registry: Registry, digits: Path) -> None:
    first = registry.register(digits, "digits").ref
    second = registry.register(digits, "digits").ref
    registry.record_image(first, digest=DIGEST, reference="r", platforms=[])
    registry.set_alias(first, "old")
    registry.set_alias(second, "new")

    assert len(registry.images(ArtefactQuery(model=ModelRef("digits", alias="old")))) == 1
    assert registry.images(ArtefactQuery(model=ModelRef("digits", alias="new"))) == []


def test_three_gigabytes_of_onnx_are_refused_before_they_are_copied(
    registry: Registry, workspace: Workspace, tmp_path: Path
) -> None:
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate(3 * 10**9)

    with pytest.raises(ModelError, match=r"m\.onnx has 3,000,000,000 bytes"):
        registry.register(tmp_path / "m.onnx", "digits")

    assert stored(workspace) == []


def test_a_large_file_is_never_in_memory_as_a_whole(registry: Registry, tmp_path: Path) -> None:
    size = 64_000_000
    with (tmp_path / "large").open("wb") as file:
        file.truncate(size)

    tracemalloc.start()
    ref = registry.register(tmp_path / "large", "large", framework="other").ref
    registry.copy_model(ref, tmp_path / "copy")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert registry.get(ref).size == size
    assert peak < size / 10
