import json
from pathlib import Path
from typing import Any

import pytest

from edgekit.cli.app import run

DIGITS = Path(__file__).parents[3] / "examples" / "digits"
MODEL = str(DIGITS / "digits.onnx")
CALIBRATION = str(DIGITS / "calibration.npz")
TEST = str(DIGITS / "test.npz")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("EDGEKIT_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def registered(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["model", "register", MODEL, "--name", "digits", "--tag", "a=1"]) == 0
    capsys.readouterr()


def data(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run(["model", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["model", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_register_makes_the_workspace_and_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["model", "register", MODEL, "--name", "digits"]) == 0

    captured = capsys.readouterr()
    assert captured.out.startswith("Registered digits:1  sha256:")
    assert captured.err == f"Made a workspace in {folder / '.edgekit'}\n"


def test_register_prints_the_version_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    printed = data(
        capsys, "register", MODEL, "--name", "digits", "--tag", "a=1", "--property", "p=2"
    )

    assert printed["ref"] == "digits:1"
    assert printed["tags"] == {"a": "1"}
    assert printed["properties"] == {"p": "2"}
    assert printed["inputs"] == [{"name": "image", "dtype": "float32", "shape": ["N", 1, 8, 8]}]


@pytest.mark.usefixtures("registered")
def test_list_and_its_filters(capsys: pytest.CaptureFixture[str]) -> None:
    run(["model", "register", MODEL, "--name", "digits", "--tag", "a=2"])
    capsys.readouterr()

    def listed(*options: str) -> list[str]:
        return [model["ref"] for model in data(capsys, "list", *options)["models"]]

    assert listed() == ["digits:1", "digits:2"]
    assert listed("--latest") == ["digits:2"]
    assert listed("--tag", "a=1") == ["digits:1"]
    assert listed("--tag", "a") == ["digits:1", "digits:2"]
    assert listed("--name", "other") == []


@pytest.mark.usefixtures("registered")
def test_tables_fit_a_hundred_columns(capsys: pytest.CaptureFixture[str]) -> None:
    run(["model", "tag", "digits", f"long={'x' * 200}"])
    capsys.readouterr()

    assert run(["model", "list"]) == 0

    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


@pytest.mark.usefixtures("registered")
def test_show_names_what_is_made_from_a_version(capsys: pytest.CaptureFixture[str]) -> None:
    printed = data(capsys, "show", "digits")

    assert (printed["ref"], printed["images"], printed["graphs"]) == ("digits:1", [], [])
    assert run(["model", "show", "digits:1"]) == 0
    assert "Input:        image float32 [N, 1, 8, 8]\n" in capsys.readouterr().out


@pytest.mark.usefixtures("registered")
def test_tags_are_set_and_removed(capsys: pytest.CaptureFixture[str]) -> None:
    assert data(capsys, "tag", "digits:1", "b=2", "--remove", "a")["tags"] == {"b": "2"}


@pytest.mark.usefixtures("registered")
def test_quantize_registers_a_child_and_reports(capsys: pytest.CaptureFixture[str]) -> None:
    printed = data(capsys, "quantize", "digits", "--calibration", CALIBRATION, "--test", TEST)

    assert printed["model"]["ref"] == "digits-int8:1"
    assert printed["model"]["parent"] == "digits:1"
    assert printed["model"]["properties"]["quantization"] == "int8"
    assert printed["report"]["images"] == 450
    assert printed["report"]["int8_accuracy"] > 0.98
    assert printed["report"]["int8_size"] < printed["report"]["float_size"] / 3


@pytest.mark.usefixtures("registered")
def test_quantize_tells_people_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["model", "quantize", "digits", "--calibration", CALIBRATION, "--name", "q"]) == 0

    printed = capsys.readouterr().out
    assert printed.startswith("Registered q:1  sha256:")
    assert "On 200 calibration inputs" in printed


@pytest.mark.usefixtures("registered")
def test_delete_names_the_users_and_exits_with_one(capsys: pytest.CaptureFixture[str]) -> None:
    run(["model", "quantize", "digits", "--calibration", CALIBRATION])
    capsys.readouterr()

    assert "used by model digits-int8:1; free it of these first" in error(
        capsys, "delete", "digits:1"
    )
    assert data(capsys, "delete", "digits-int8:1") == {"deleted": "digits-int8:1"}
    assert data(capsys, "delete", "digits:1") == {"deleted": "digits:1"}


@pytest.mark.usefixtures("registered")
def test_download_writes_the_same_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "models").mkdir()

    into_file = data(capsys, "download", "digits", "-o", "copy.onnx")
    into_folder = data(capsys, "download", "digits", "-o", "models")

    assert into_folder["path"] == "models/digits-1.onnx"
    for path in (into_file["path"], into_folder["path"]):
        assert Path(path).read_bytes() == Path(MODEL).read_bytes()


def test_without_a_workspace_the_way_out_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "edgekit model register --help" in error(capsys, "list")


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nobody"], "no model named nobody"),
        (["show", "digits:7"], "no version 7 of digits; there are 1"),
        (["show", "a:B"], "'a:B' is no reference to a model"),
        (["show", "digits:champion"], "no alias champion of digits"),
        (["delete", "digits"], "which version of digits"),
        (["register", TEST, "--name", "x"], "test.npz is no ONNX file"),
        (["register", MODEL, "--name", "X"], "'X' is no name for a model"),
        (["register", MODEL, "--name", "x", "--tag", "a b=1"], "'a b' is no name for a tag"),
        (["quantize", "digits", "--calibration", MODEL], "digits.onnx is no .npz file"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert message in error(capsys, *arguments)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    "arguments",
    [
        ["tag", "digits"],
        ["tag", "digits", "novalue"],
        ["register", "missing.onnx", "--name", "x"],
        ["register", MODEL],
    ],
)
def test_wrong_usage_exits_with_two(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(["model", *arguments]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("registered")
def test_an_alias_is_set_used_and_removed(capsys: pytest.CaptureFixture[str]) -> None:
    assert data(capsys, "alias", "digits:1", "production", "--protect")["aliases"] == ["production"]
    assert data(capsys, "show", "digits:production")["ref"] == "digits:1"
    assert "protected alias production" in error(capsys, "delete", "digits:1")

    data(capsys, "alias", "digits:1", "production", "--no-protect")
    assert data(capsys, "alias", "digits", "production", "--remove")["removed"] is True
    assert data(capsys, "show", "digits")["aliases"] == []


@pytest.mark.usefixtures("registered")
def test_what_is_deleted_is_restored_until_it_is_collected(
    capsys: pytest.CaptureFixture[str],
) -> None:
    data(capsys, "delete", "digits:1")
    assert [model["ref"] for model in data(capsys, "list", "--deleted")["models"]] == ["digits:1"]
    assert data(capsys, "restore", "digits:1")["deleted"] is None
    data(capsys, "delete", "digits:1")

    assert data(capsys, "gc")["versions"] == []
    assert data(capsys, "gc", "--deleted-for", "0", "--dry-run")["versions"] == ["digits:1"]
    assert data(capsys, "gc", "--deleted-for", "0")["versions"] == ["digits:1"]
    assert "no deleted model named digits" in error(capsys, "restore", "digits:1")


@pytest.mark.usefixtures("registered")
def test_list_finds_text_and_lineage(capsys: pytest.CaptureFixture[str]) -> None:
    data(capsys, "quantize", "digits", "--calibration", CALIBRATION)

    for options in (["int8"], ["--uses", "digits:1"]):
        found = data(capsys, "list", *options)["models"]
        assert [model["ref"] for model in found] == ["digits-int8:1"]


@pytest.mark.usefixtures("registered")
def test_a_profile_is_printed_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    printed = data(capsys, "profile", "digits", "--input", TEST)

    assert printed["p50"] <= printed["p99"]
    (kept,) = data(capsys, "show", "digits")["profiles"]
    assert kept["p50"] == printed["p50"]
    assert run(["model", "profile", "digits"]) == 0
    assert run(["model", "show", "digits"]) == 0
    assert "µs 99%, " in capsys.readouterr().out


@pytest.mark.usefixtures("registered")
def test_everything_moves_to_another_workspace(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = data(capsys, "list")
    assert data(capsys, "export", "all.tar")["versions"] == 1
    assert "already: digits" in error(capsys, "import", "all.tar")

    monkeypatch.setenv("EDGEKIT_WORKSPACE", str(folder / "other"))

    assert data(capsys, "import", "all.tar")["versions"] == 1
    assert data(capsys, "list") == before


@pytest.mark.usefixtures("registered")
def test_a_recipe_is_kept_and_layers_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--method", "percentile", "--equalize", "--correct-bias"]
    printed = data(capsys, "quantize", "digits", "--calibration", CALIBRATION, *options)

    recipe = printed["model"]["properties"]["quantization.recipe"]
    assert recipe == "percentile 99.99, equalized, biases corrected"
    assert min(layer["sqnr"] for layer in printed["layers"]) > 20
    run(["model", "quantize", "digits", "--calibration", CALIBRATION, "--layers"])
    assert "Error of each tensor" in capsys.readouterr().out


@pytest.mark.usefixtures("registered")
def test_a_model_goes_to_a_registry_and_comes_back(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from edgekit_sim.ociregistry import Registry

    with Registry(tmp_path / "oci-registry") as registry:
        place = f"{registry.address}/models/digits:1"
        pushed = data(capsys, "push", "digits:1", place)
        pulled = data(capsys, "pull", place, "--name", "again")
        assert run(["model", "push", "digits:1", place]) == 0
        assert "digits:1: 0 bytes uploaded" in capsys.readouterr().err

    assert pushed["bytes_uploaded"] > pulled["size"]
    assert (pulled["ref"], pulled["tags"]) == ("again:1", {"a": "1"})


@pytest.mark.usefixtures("registered")
def test_a_place_that_names_no_registry_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not name a registry" in error(capsys, "push", "digits:1", "digits:1")


@pytest.mark.usefixtures("registered")
def test_lineage_is_shown_as_a_tree(capsys: pytest.CaptureFixture[str]) -> None:
    from edgekit.registry import Carried, ModelRef, Registry
    from edgekit.workspace import Workspace

    registry = Registry.open(Workspace.find())
    digits = ModelRef("digits", 1)
    small = registry.register(Path(MODEL), "small", parent=digits).ref
    registry.register(Path(MODEL), "smaller", parent=small)
    image = "sha256:" + "a" * 64
    registry.record_image(small, digest=image, reference="lab/small:1", platforms=["linux/arm64"])
    registry.record_graph(Path(TEST), model=small, board="ecp5-85f", cycles=6460, proof={})
    registry.note_deployments("hub.example", {"lyon": Carried("", frozenset({image}))})

    assert run(["model", "show", "small"]) == 0
    tree = capsys.readouterr().out.partition("Lineage:\n")[2].splitlines()

    assert tree[0] == "  digits:1"
    assert tree[1] == "  └─ small:1  made from it  <-"
    assert tree[2] == "     ├─ image lab/small:1  linux/arm64"
    assert tree[3].startswith("     │  └─ deployment lyon  on hub.example since ")
    assert tree[4].startswith("     ├─ package sha256:")
    assert tree[4].endswith("  for ecp5-85f, 6,460 cycles")
    assert tree[5] == "     └─ smaller:1  made from it"
    shown = data(capsys, "show", "small")
    assert shown["lineage"]["became"][0]["name"] == "small:1"
    assert shown["deployments"][0]["name"] == "lyon"


@pytest.mark.usefixtures("registered")
def test_a_profile_is_shown_and_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert data(capsys, "list")["models"][0]["profile"] is None
    data(capsys, "profile", "digits")

    (listed,) = data(capsys, "list")["models"]
    assert 0 < listed["profile"]["p50"] <= listed["profile"]["p99"]
    assert (listed["profile"]["size"], listed["profile"]["memory"] > 0) == (listed["size"], True)
    assert run(["model", "show", "digits"]) == 0
    assert " MB of memory" in capsys.readouterr().out


@pytest.mark.parametrize("verb", [("quantize", "--calibration", CALIBRATION), ("profile",)])
def test_what_needs_onnx_says_so_of_another_framework(
    verb: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    data(capsys, "register", TEST, "--name", "trees", "--framework", "sklearn")

    assert "trees:1 is a sklearn model" in error(capsys, verb[0], "trees", *verb[1:])


@pytest.mark.usefixtures("registered")
def test_a_place_that_cannot_be_written_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    said = error(capsys, "download", "digits:1", "-o", "missing/x.onnx")

    assert said == "edgekit: writing missing/x.onnx failed: No such file or directory\n"
