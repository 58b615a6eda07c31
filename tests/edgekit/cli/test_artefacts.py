import json
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli.app import run
from edgekit.registry import Registry
from edgekit.workspace import Workspace

IMAGE = "sha256:" + "a" * 64


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A model with an image in two places and packages for two boards."""
    monkeypatch.setenv("EDGEKIT_WORKSPACE", str(tmp_path / "workspace"))
    registry = Registry.open(Workspace.find_or_create())
    (tmp_path / "model").write_bytes(b"model")
    ref = registry.register(tmp_path / "model", "digits", framework="x").ref
    for place in ("oci:out", f"registry.example.com/{'long' * 20}/digits:1"):
        registry.record_image(ref, digest=IMAGE, reference=place, platforms=["linux/amd64"])
    for board in ("ecp5-85f", "ice40up5k"):
        (tmp_path / "package").write_text(board)
        registry.record_graph(tmp_path / "package", model=ref, board=board, cycles=9, proof={})
    return registry


def data(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_images_are_tagged_in_all_places_and_found(capsys: pytest.CaptureFixture[str]) -> None:
    changed = data(capsys, "image", "tag", "digits:1", "stage=trial")["changed"]

    assert [image["tags"] for image in changed] == [{"stage": "trial"}] * 2
    assert len(data(capsys, "image", "list", "--tag", "stage")["images"]) == 2
    assert len(data(capsys, "image", "list", "oci:", "--uses", "digits")["images"]) == 1
    assert data(capsys, "image", "list", "--tag", "stage=production")["images"] == []
    assert run(["image", "tag", "oci:out", "--remove", "stage"]) == 0
    assert capsys.readouterr().out == f"{IMAGE}  no tags\n"


def test_packages_are_tagged_found_and_deleted(capsys: pytest.CaptureFixture[str]) -> None:
    data(capsys, "fpga", "tag", "digits:1@ecp5-85f", "stage=trial")

    (found,) = data(capsys, "fpga", "list", "--tag", "stage=trial")["packages"]
    assert (found["board"], found["model"]) == ("ecp5-85f", "digits:1")
    assert data(capsys, "fpga", "delete", found["digest"])["deleted"] == found["digest"]
    (left,) = data(capsys, "fpga", "list", "ice40", "--latest")["packages"]
    assert left["board"] == "ice40up5k"


@pytest.mark.parametrize("noun", ["image", "fpga"])
def test_tables_fit_a_hundred_columns(noun: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([noun, "tag", "digits:1" if noun == "image" else "digits:1@ecp5-85f", "a=b"]) == 0
    assert run([noun, "list"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert any("digits:1" in line for line in lines)
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["image", "tag", "digits:2", "a=b"], "no version 2 of digits"),
        (["image", "tag", "oci:other", "a=b"], "no image oci:other is recorded"),
        (["fpga", "tag", "digits:1", "a=b"], "digits:1@ecp5-85f"),
        (["fpga", "list", "--uses", "nobody"], "no model named nobody"),
        (["fpga", "delete", "sha256:0"], "is no sha256 digest"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 1

    captured = capsys.readouterr()
    assert said in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)


def test_nothing_found_says_how_to_make_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fpga", "list", "nothing-like-it"]) == 0
    assert "edgekit fpga compile" in capsys.readouterr().err
