from datetime import timedelta
from pathlib import Path

import pytest

from edgekit.errors import Conflict, NotFound
from edgekit.registry import ModelRef, Query, Registry
from edgekit.registry.garbage import Collected
from edgekit.workspace import Workspace

NO_GRACE = timedelta(0)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    path = tmp_path / "other"
    path.write_bytes(b"another model")
    return path


def files(workspace: Workspace) -> int:
    return sum(path.is_file() for path in (workspace.folder / "blobs").rglob("*"))


def test_what_is_deleted_is_listed_and_restored_with_all_it_had(
    registry: Registry, digits: Path
) -> None:
    before = registry.register(digits, "digits", tags={"a": "1"}, properties={"p": "2"})
    registry.delete(before.ref)

    (deleted,) = registry.models(Query(deleted=True))
    assert deleted.ref == before.ref
    assert deleted.deleted is not None
    assert registry.models() == []

    assert registry.restore(before.ref) == before
    assert registry.model_file(before.ref).read_bytes() == digits.read_bytes()


def test_only_what_is_deleted_is_restored(registry: Registry, digits: Path) -> None:
    ref = registry.register(digits, "digits").ref

    with pytest.raises(NotFound, match="no deleted model named digits"):
        registry.restore(ref)


def test_a_child_is_not_restored_without_its_parent(registry: Registry, digits: Path) -> None:
    parent = registry.register(digits, "digits").ref
    child = registry.register(digits, "small", parent=parent).ref
    registry.delete(child)
    registry.delete(parent)

    with pytest.raises(Conflict, match="made from digits:1, which is deleted too"):
        registry.restore(child)
    registry.restore(parent)
    assert registry.restore(child).parent == parent


def test_collecting_purges_what_is_deleted_and_keeps_the_rest(
    registry: Registry, workspace: Workspace, digits: Path, other: Path
) -> None:
    kept = registry.register(digits, "digits")
    gone = registry.register(other, "other", framework="x")
    registry.delete(gone.ref)

    done = registry.collect_garbage(grace=NO_GRACE)

    assert done == Collected((gone.ref,), {gone.digest: gone.size})
    assert done.freed == gone.size
    assert files(workspace) == 1
    assert registry.model_file(kept.ref).is_file()
    with pytest.raises(NotFound):
        registry.restore(gone.ref)
    assert registry.collect_garbage(grace=NO_GRACE) == Collected()


def test_a_number_is_not_given_again_after_collecting(registry: Registry, digits: Path) -> None:
    registry.delete(registry.register(digits, "digits").ref)
    registry.collect_garbage(grace=NO_GRACE)

    assert registry.register(digits, "digits").version == 2


def test_a_file_that_two_versions_share_stays_for_the_other(
    registry: Registry, digits: Path
) -> None:
    registry.register(digits, "digits")
    registry.delete(registry.register(digits, "digits").ref)

    done = registry.collect_garbage(grace=NO_GRACE)

    assert (done.versions, done.blobs) == ((ModelRef("digits", 2),), {})


def test_a_dry_run_says_the_same_and_does_nothing(registry: Registry, other: Path) -> None:
    ref = registry.register(other, "other", framework="x").ref
    registry.delete(ref)

    said = registry.collect_garbage(grace=NO_GRACE, dry_run=True)

    registry.restore(ref)
    registry.delete(ref)
    assert registry.collect_garbage(grace=NO_GRACE) == said


def test_young_deletions_and_young_files_stay(registry: Registry, other: Path) -> None:
    ref = registry.register(other, "other", framework="x").ref
    registry.delete(ref)

    assert registry.collect_garbage(deleted_for=timedelta(days=1)) == Collected()
    assert registry.collect_garbage().blobs == {}


def test_a_deleted_parent_stays_while_a_child_can_be_restored(
    registry: Registry, digits: Path
) -> None:
    parent = registry.register(digits, "digits").ref
    child = registry.register(digits, "small", parent=parent).ref
    registry.delete(child)
    registry.delete(parent)

    assert registry.collect_garbage(deleted_for=timedelta(hours=1)).versions == ()
    assert registry.collect_garbage(grace=NO_GRACE).versions == (parent, child)


def test_files_that_nothing_names_are_found(
    registry: Registry, workspace: Workspace, other: Path
) -> None:
    stray = registry._blobs
    with stray.intake() as intake:
        incoming = intake.add(other)
        stray.put(incoming)
    left = workspace.folder / "blobs" / "incoming" / "left"
    left.mkdir()
    (left / "file").write_bytes(b"by a killed process")

    done = registry.collect_garbage(grace=NO_GRACE)

    assert done.blobs == {incoming.digest: incoming.size}
    assert done.leftovers == 1
    assert files(workspace) == 0


def test_packages_are_kept_until_they_are_deleted(
    registry: Registry, digits: Path, other: Path
) -> None:
    ref = registry.register(digits, "digits").ref
    graph = registry.record_graph(other, model=ref, board="b", cycles=1, proof={})

    assert registry.collect_garbage(grace=NO_GRACE).blobs == {}
    registry.delete_graph(graph.digest)
    assert list(registry.collect_garbage(grace=NO_GRACE).blobs) == [graph.digest]
