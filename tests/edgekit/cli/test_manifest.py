import json
from pathlib import Path

import pytest

from edgekit.cli.app import run

EXAMPLE = Path(__file__).parents[3] / "examples/digits-fleet/fleet.yaml"
IMAGE = "digits:1=registry.example/digits@sha256:" + "a" * 64


def test_build_writes_the_manifest_of_a_group(tmp_path, capsys):
    output = tmp_path / "line-a.json"
    assert (
        run(
            [
                "manifest",
                "build",
                str(EXAMPLE),
                "--group",
                "line-a",
                "--image",
                IMAGE,
                "-o",
                str(output),
            ]
        )
        == 0
    )
    assert capsys.readouterr().out == ""
    assert run(["manifest", "build", str(EXAMPLE), "--group", "line-a", "--image", IMAGE]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(output.read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["line-a.json"]


def test_build_as_json_tells_the_digest(capsys):
    assert (
        run(["manifest", "build", str(EXAMPLE), "--group", "line-b", "--image", IMAGE, "--json"])
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert (told["fleet"], told["group"], told["path"]) == ("digits", "line-b", None)
    assert told["digest"].startswith("sha256:")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", IMAGE], "has several groups; choose one with --group: line-a, line-b"),
        (["--group", "x", "--image", IMAGE], "fleet digits has no group x; it has line-a, line-b"),
        (["--group", "line-a"], "modules.scorer.image: no workspace at "),
        (["--image", "digits"], "--image digits does not read; write --image MODEL=IMAGE"),
        (["--group", "line-a", "--image", IMAGE, "-o", "/no/where/x"], "cannot write /no/where/x"),
    ],
)
def test_a_mistake_is_one_line_and_exit_1(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGEKIT_WORKSPACE", raising=False)
    assert run(["manifest", "build", str(EXAMPLE), *arguments]) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n"), message in printed.err) == ("", 1, True), printed


def test_check_needs_no_images_and_finds_tags(capsys):
    assert run(["manifest", "check", str(EXAMPLE), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], len(told["findings"])) == (True, 4)


def test_check_of_a_broken_manifest_exits_1(tmp_path, capsys):
    file = tmp_path / "manifest.json"
    big = {f"k{number}": "x" * 4000 for number in range(9)}
    file.write_text(json.dumps({"modulesContent": {"scorer": {"properties.desired": big}}}))
    assert run(["manifest", "check", str(file)]) == 1
    printed = capsys.readouterr()
    assert printed.out == "error: scorer: 36018 bytes, the hub takes 32768\n"
    assert printed.err == f"{file}: 1 error, 0 warnings\n"


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "{}", "[" * 5000, '{"modulesContent": 1}'])
def test_check_of_something_else_is_one_line(content, tmp_path, capsys):
    file = tmp_path / "manifest.json"
    file.write_text(content)
    assert run(["manifest", "check", str(file)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_diff_exits_3_and_shows_create_options_as_objects(tmp_path, capsys):
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    run(["manifest", "build", str(EXAMPLE), "--group", "line-a", "--image", IMAGE, "-o", str(one)])
    other.write_text(one.read_text().replace("268435456", "1"))
    capsys.readouterr()
    assert run(["manifest", "diff", str(one), str(other)]) == 3
    assert capsys.readouterr().out == (
        "~ $edgeAgent.properties.desired.modules.scorer.settings.createOptions.HostConfig.Memory: "
        "268435456 -> 1\n"
    )
    fleet = [str(EXAMPLE), "--group", "line-a", "--image", IMAGE]
    assert run(["manifest", "diff", str(one), *fleet]) == 0
    assert run(["manifest", "diff", str(EXAMPLE), str(EXAMPLE), "--image", IMAGE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"equal": True, "changes": []}
