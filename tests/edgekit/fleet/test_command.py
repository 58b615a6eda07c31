"""`edgekit fleet` against a hub."""

import json
import stat

import pytest

from edgekit.cli.app import run
from edgekit.registry import Registry
from edgekit.workspace import Workspace

FILE = """\
schema: 1
fleet: digits
groups:
  presses:
    tags: {line: a}
    modules:
      scorer: {image: "digits:1"}
"""
IMAGE = ["--image", "digits:1=registry.example/digits@sha256:" + "a" * 64]


@pytest.fixture
def file(tmp_path, hub, simulator, monkeypatch):  # noqa: ARG001 (hub makes the devices)
    """A fleet file, with the environment naming a hub that does not carry it yet."""
    monkeypatch.setenv("EDGEKIT_HUB_CONNECTION_STRING", simulator.service_connection_string)
    path = tmp_path / "fleet.yaml"
    path.write_text(FILE)
    return str(path)


def test_plan_apply_status(file, tmp_path, hub, capsys):
    saved = str(tmp_path / "plan.json")
    assert run(["fleet", "plan", file, *IMAGE, "-o", saved, "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert (told["changes"], told["hub_calls"], told["groups"][0]["devices"]) == (True, 2, 2)
    assert run(["fleet", "apply", saved, "--dry-run"]) == 0
    assert hub.configurations() == []
    assert run(["fleet", "apply", saved, "--yes"]) == 0
    assert [item.id for item in hub.configurations()] == ["edgekit-digits-presses-r1"]
    assert run(["fleet", "plan", file, *IMAGE]) == 0
    capsys.readouterr()
    assert run(["fleet", "status", file, "--json"]) == 0
    (group,) = json.loads(capsys.readouterr().out)["groups"]
    assert (group["targeted"], group["applied"], group["succeeded"], group["done"]) == (
        2,
        2,
        0,
        False,
    )
    assert run(["fleet", "status", file, "--watch", "--timeout", "0", "--json"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["done"] is False
    assert printed.err.startswith("edgekit: fleet digits is not done after 0 s: presses 0 of 2")


def test_the_workspace_knows_what_the_hub_carries(file, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_WORKSPACE", str(tmp_path / "workspace"))
    registry = Registry.open(Workspace.find_or_create())
    (tmp_path / "model").write_bytes(b"model")
    ref = registry.register(tmp_path / "model", "digits", framework="x").ref
    place = "registry.example/digits:1"
    registry.record_image(ref, digest="sha256:" + "a" * 64, reference=place, platforms=[])

    assert run(["fleet", "apply", file, "--yes"]) == 0

    (deployment,) = registry.deployments(ref)
    assert (deployment.name, deployment.ended) == ("edgekit-digits-presses-r1", None)
    assert run(["model", "delete", "digits:1"]) == 1


def test_tables_fit_a_hundred_columns(file, capsys):
    assert run(["fleet", "apply", file, *IMAGE, "--yes"]) == 0
    assert run(["fleet", "status", file]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 100] == []
    assert any(line.lstrip().startswith("group ") for line in lines)
    assert any("presses" in line for line in lines)


def test_apply_without_yes_asks_and_does_nothing_where_nobody_answers(file, hub, capsys):
    assert run(["fleet", "apply", file, *IMAGE]) == 1
    assert "add --yes" in capsys.readouterr().err
    assert hub.configurations() == []


def test_an_applied_plan_is_not_applied_again(file, tmp_path, capsys):
    saved = str(tmp_path / "plan.json")
    run(["fleet", "plan", file, *IMAGE, "-o", saved])
    assert run(["fleet", "apply", saved, "--yes"]) == 0
    capsys.readouterr()
    assert run(["fleet", "apply", saved, "--yes"]) == 1
    assert capsys.readouterr().err == (
        "edgekit: the hub has changed since the plan: configuration edgekit-digits-presses-r1 is "
        "new; plan again and look at the difference\n"
    )


def test_a_file_may_hold_the_connection_string(file, tmp_path, simulator, monkeypatch, capsys):
    secret = tmp_path / "hub"
    secret.write_text(simulator.service_connection_string + "\n")
    monkeypatch.delenv("EDGEKIT_HUB_CONNECTION_STRING")
    monkeypatch.setenv("EDGEKIT_HUB_CONNECTION_STRING_FILE", str(secret))
    assert run(["fleet", "status", file, "--json"]) == 0
    monkeypatch.setenv("EDGEKIT_HUB_CONNECTION_STRING_FILE", str(tmp_path / "none"))
    capsys.readouterr()
    assert run(["fleet", "status", file]) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("connection", "message"),
    [
        ("", "no hub is named; set EDGEKIT_HUB_CONNECTION_STRING"),
        ("nonsense", "the hub's connection string does not read"),
        (
            "HostName=127.0.0.1:1;SharedAccessKeyName=x;SharedAccessKey=YWJj",
            "127.0.0.1:1 does not answer (the connection is refused); could not list",
        ),
    ],
)
def test_a_hub_that_is_not_there_is_one_line(connection, message, file, monkeypatch, capsys):
    monkeypatch.setenv("EDGEKIT_HUB_CONNECTION_STRING", connection)
    assert run(["fleet", "plan", file, *IMAGE]) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n"), message in printed.err) == ("", 1, True), printed
    assert "YWJj" not in printed.err


def test_a_plan_file_is_as_readable_as_other_files(file, tmp_path):
    saved = tmp_path / "plan.json"
    run(["fleet", "plan", file, *IMAGE, "-o", str(saved)])
    other = tmp_path / "other"
    other.touch()
    assert stat.S_IMODE(saved.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fleet.yaml", "other", "plan.json"]
