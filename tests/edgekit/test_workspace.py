from pathlib import Path

import pytest

from edgekit.errors import WorkspaceError
from edgekit.workspace import Workspace


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEKIT_WORKSPACE", raising=False)


def test_a_new_workspace_is_found_from_below(tmp_path: Path) -> None:
    made = Workspace.create(tmp_path / ".edgekit")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)

    assert Workspace.find(below) == made


def test_the_nearest_workspace_wins(tmp_path: Path) -> None:
    Workspace.create(tmp_path / ".edgekit")
    nearer = Workspace.create(tmp_path / "a" / ".edgekit")

    assert Workspace.find(tmp_path / "a") == nearer


def test_the_variable_wins_over_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Workspace.create(tmp_path / ".edgekit")
    named = Workspace.create(tmp_path / "elsewhere")
    monkeypatch.setenv("EDGEKIT_WORKSPACE", str(tmp_path / "elsewhere"))

    assert Workspace.find(tmp_path) == named


def test_settings_are_read_as_they_were_written(tmp_path: Path) -> None:
    made = Workspace.create(tmp_path / ".edgekit", database='postgresql:///"x"', blobs="s3://ü")

    assert Workspace.find(tmp_path) == made
    assert made.database == 'postgresql:///"x"'


def test_find_says_what_to_do_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="no workspace at") as caught:
        Workspace.find(tmp_path)

    assert "edgekit model register" in caught.value.hint


def test_a_variable_that_names_no_workspace_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEKIT_WORKSPACE", str(tmp_path / "missing"))

    with pytest.raises(WorkspaceError, match=r"names .*missing, which is no workspace"):
        Workspace.find()


def test_find_or_create_makes_one_once_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []

    made = Workspace.find_or_create(tmp_path, announce=said.append)
    again = Workspace.find_or_create(tmp_path, announce=said.append)

    assert again == made
    assert said == [f"Made a workspace in {tmp_path / '.edgekit'}"]


def test_broken_settings_are_not_replaced_by_a_new_workspace(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / ".edgekit")
    (workspace.folder / "workspace.toml").write_text("database = [", encoding="utf-8")
    (tmp_path / "a").mkdir()

    with pytest.raises(WorkspaceError, match=r"workspace\.toml does not read"):
        Workspace.find_or_create(tmp_path / "a")

    assert not (tmp_path / "a" / ".edgekit").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('colour = "red"', "unknown setting colour"),
        ("database = 3", "database in .* is not a text"),
        ('blobs = ""', "blobs in .* is not a text"),
        (b"\xff", "does not read"),
    ],
)
def test_settings_that_make_no_sense_are_named(
    tmp_path: Path, settings: str | bytes, message: str
) -> None:
    file = Workspace.create(tmp_path / ".edgekit").folder / "workspace.toml"
    file.write_bytes(settings if isinstance(settings, bytes) else settings.encode())

    with pytest.raises(WorkspaceError, match=message):
        Workspace.find(tmp_path)


def test_relative_places_start_at_the_folder(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)

    assert workspace.database_url == f"sqlite:///{tmp_path}/registry.sqlite3"
    assert workspace.blob_url == f"file://{tmp_path}/blobs"


def test_absolute_places_stay(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, "postgresql+psycopg://host/edgekit", "s3://models/edgekit/")

    assert workspace.database_url == "postgresql+psycopg://host/edgekit"
    assert workspace.blob_url == "s3://models/edgekit"


def test_passwords_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", "a/b@c")
    workspace = Workspace(tmp_path, "postgresql+psycopg://me:${PASSWORD}@host/edgekit")

    assert workspace.database_url == "postgresql+psycopg://me:a%2Fb%40c@host/edgekit"


def test_a_missing_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PASSWORD", raising=False)

    with pytest.raises(WorkspaceError, match="variable PASSWORD"):
        _ = Workspace(tmp_path, "postgresql://me:${PASSWORD}@host/edgekit").database_url


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(WorkspaceError, match=r"cannot make a workspace in .*file"):
        Workspace.create(tmp_path / "file" / ".edgekit")
