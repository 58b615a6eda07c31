import hashlib
import os
import tracemalloc
import uuid
from datetime import timedelta
from pathlib import Path

import fsspec
import pytest

from edgekit.errors import RegistryError
from edgekit.registry import Registry
from edgekit.registry.blobs import BlobStore
from edgekit.workspace import Workspace
from tests.azurite import ACCOUNT, Azurite
from tests.edgekit.registry.test_files import save_apart

CONTENT = b"weights"
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(
    params=["folder", "memory", "s3", pytest.param("azure", marks=pytest.mark.needs("azurite"))]
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """A store in a folder, in memory, in S3 and in Azure Blob Storage."""
    match request.param:
        case "folder":
            url = (tmp_path / "blobs").as_uri()
        case "memory":
            url = f"memory://{uuid.uuid4()}/blobs"
        case name:
            url = request.getfixturevalue(f"{name}_blobs")
    return BlobStore(url, tmp_path / "cache")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    return path


def add(store: BlobStore, source: Path) -> str:
    with store.intake() as intake:
        incoming = intake.add(source)
        store.put(incoming)
    return incoming.digest


def test_what_is_put_is_found_under_its_sha256(store: BlobStore, source: Path) -> None:
    assert add(store, source) == DIGEST
    assert store.exists(DIGEST)
    assert store.path(DIGEST).read_bytes() == CONTENT
    assert store.digests() == {DIGEST: len(CONTENT)}


def test_a_folder_whose_name_a_url_must_escape_is_that_folder(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "my models, 100%"
    store = BlobStore(folder.as_uri(), tmp_path / "cache")
    add(store, source)

    assert store.path(DIGEST).is_relative_to(folder)
    assert list(store.digests()) == [DIGEST]


def test_the_same_content_is_kept_once(store: BlobStore, source: Path) -> None:
    add(store, source)
    add(store, source)

    assert store.digests() == {DIGEST: len(CONTENT)}


def test_nothing_is_stored_until_it_is_put(store: BlobStore, source: Path) -> None:
    with store.intake() as intake:
        incoming = intake.add(source)
        assert incoming.path.read_bytes() == CONTENT

    assert store.digests() == {}
    assert not incoming.path.exists()


def test_a_source_that_changes_while_it_is_checked_does_not_matter(
    store: BlobStore, source: Path
) -> None:
    with store.intake() as intake:
        incoming = intake.add(source)
        source.write_bytes(b"something else")
        store.put(incoming)

    assert store.path(DIGEST).read_bytes() == CONTENT


def test_what_is_deleted_is_gone_and_deleting_again_is_fine(store: BlobStore, source: Path) -> None:
    add(store, source)
    store.delete(DIGEST)
    store.delete(DIGEST)

    assert not store.exists(DIGEST)


def test_a_missing_blob_is_named(store: BlobStore) -> None:
    with pytest.raises(RegistryError, match=DIGEST):
        store.path(DIGEST)


def test_damage_is_noticed_on_the_next_read_and_healed_by_the_next_put(
    store: BlobStore, source: Path, tmp_path: Path
) -> None:
    add(store, source)
    damage(store, tmp_path)

    with pytest.raises(RegistryError, match="is damaged"):
        store.path(DIGEST)
    add(store, source)

    assert store.path(DIGEST).read_bytes() == CONTENT


def test_a_damaged_copy_in_the_cache_is_fetched_again(source: Path, tmp_path: Path) -> None:
    store = BlobStore(f"memory://{uuid.uuid4()}", tmp_path / "cache")
    add(store, source)
    copy = store.path(DIGEST)
    copy.write_bytes(b"damaged")

    assert store.path(DIGEST).read_bytes() == CONTENT


def test_a_digest_cannot_lead_out_of_the_store(store: BlobStore) -> None:
    with pytest.raises(RegistryError, match="no sha256 digest"):
        store.path("sha256:../../../etc/passwd")


def test_leftovers_of_killed_processes_are_swept_by_age(source: Path, tmp_path: Path) -> None:
    store = BlobStore((tmp_path / "blobs").as_uri(), tmp_path / "cache")
    with store.intake() as intake:
        incoming = intake.add(source)
        stale = incoming.path.parent.with_name("stale")
        stale.mkdir()
        (stale / "file").write_bytes(CONTENT)
        for path in (stale / "file", stale):
            os.utime(path, (0, 0))

        assert store.sweep(older_than=3600) == [stale]
        assert not stale.exists()
        assert incoming.path.exists()


def test_credentials_in_a_url_are_never_shown(tmp_path: Path) -> None:
    with pytest.raises(RegistryError) as caught:
        BlobStore("nosuch://me:secret@host/bucket", tmp_path)

    assert "nosuch://host/bucket" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_source_that_cannot_be_read_is_named(store: BlobStore, tmp_path: Path) -> None:
    with (
        pytest.raises(RegistryError, match=r"copying .*missing failed"),
        store.intake() as intake,
    ):
        intake.add(tmp_path / "missing")


def damage(store: BlobStore, tmp_path: Path) -> None:
    if (tmp_path / "blobs").exists():
        path = store.path(DIGEST)
        path.chmod(0o644)
        path.write_bytes(b"damaged")
    else:
        store._fs.pipe_file(store._place(DIGEST), b"damaged")


REMOTE = [pytest.param("azure_blobs", marks=pytest.mark.needs("azurite")), "s3_blobs"]


@pytest.mark.parametrize("place", REMOTE)
def test_a_workspace_lives_in_an_object_store(
    request: pytest.FixtureRequest, tmp_path: Path, digits: Path, place: str
) -> None:
    url = request.getfixturevalue(place)
    registry = Registry.open(Workspace.create(tmp_path / "one", blobs=url))
    other = Registry.open(Workspace.create(tmp_path / "two", blobs=f"{url}-2"))
    kept = registry.register(digits, "digits")
    gone = registry.register(save_apart(tmp_path), "apart")

    assert registry.model_bytes(gone.ref)
    registry.export_archive(tmp_path / "archive.tar")
    other.import_archive(tmp_path / "archive.tar")
    assert other.models() == [gone, kept]
    assert other.model_file(kept.ref).read_bytes() == digits.read_bytes()
    registry.delete(gone.ref)
    collected = registry.collect_garbage(grace=timedelta(0))

    assert set(collected.blobs) == {gone.digest, gone.files[0].digest}
    assert registry._blobs.digests() == {kept.digest: kept.size}


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.parametrize(
    ("place", "size", "most"),
    [
        pytest.param("azure_blobs", 150 << 20, 100 << 20, marks=pytest.mark.needs("azurite")),
        ("s3_blobs", 40 << 20, 120 << 20),  # S3 wants larger pieces, of which four go at a time
    ],
)
def test_a_file_of_many_pieces_goes_and_comes_in_bounded_memory(
    request: pytest.FixtureRequest, tmp_path: Path, place: str, size: int, most: int
) -> None:
    store = BlobStore(request.getfixturevalue(place), tmp_path / "cache")
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.write(b"begin")
        file.truncate(size)

    tracemalloc.start()
    digest = add(store, large)
    fetched = store.path(digest)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert fetched.stat().st_size == size
    assert peak < most


@pytest.mark.needs("azurite")
def test_a_store_that_refuses_is_told_in_one_line(
    azurite: Azurite,
    azure_blobs: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    source: Path,
) -> None:
    wrong = f"AccountName={ACCOUNT};AccountKey=c2VjcmV0;BlobEndpoint={azurite.url}"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", wrong)
    _forget_file_systems()
    store = BlobStore(azure_blobs, tmp_path / "cache")

    with pytest.raises(RegistryError, match=r"storing a blob in .* failed") as caught:
        add(store, source)
    _forget_file_systems()

    assert "\n" not in str(caught.value)
    assert "c2VjcmV0" not in str(caught.value)
    assert "AZURE_STORAGE_CONNECTION_STRING" in caught.value.hint


def test_missing_credentials_are_told_with_where_they_belong(
    s3_blobs: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    _forget_file_systems()
    store = BlobStore(s3_blobs, tmp_path / "cache")

    with pytest.raises(RegistryError, match="Unable to locate credentials") as caught:
        add(store, source)
    _forget_file_systems()

    assert "AWS_ACCESS_KEY_ID" in caught.value.hint


def _forget_file_systems() -> None:
    """Drivers keep what they have opened, with the credentials of then."""
    for name in ("abfs", "s3"):
        fsspec.get_filesystem_class(name).clear_instance_cache()
