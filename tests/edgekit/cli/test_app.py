"""The frame of the command: help, exit codes, one line for an error."""

import subprocess
import sys

import click
import pytest

from edgekit.cli import app
from edgekit.errors import NotFound

HEAVY = (
    "numpy",
    "onnx",
    "onnxruntime",
    "sqlalchemy",
    "rich",
    "httpx",
    "azure",
    "docker",
    "aiohttp",
)


def test_help_names_every_noun(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [noun for noun in app.NOUNS if f"  {noun} " not in shown] == []


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from edgekit.cli.app import run; run(['--help']);"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("noun", sorted(app.NOUNS))
def test_every_noun_and_verb_opens_its_help_with_an_example(noun: str) -> None:
    context = click.Context(app.edgekit)
    command = app.edgekit.get_command(context, noun)
    assert command is not None
    verbs = list(command.commands.values()) if isinstance(command, click.Group) else []
    without = [
        each.name
        for each in [command, *verbs]
        if not isinstance(each, click.Group) and f"edgekit {noun}" not in (each.help or "")
    ]
    assert without == []


@pytest.mark.parametrize("noun", sorted(app.NOUNS))
def test_every_verb_speaks_json(noun: str) -> None:
    command = app.edgekit.get_command(click.Context(app.edgekit), noun)
    leaves = command.commands.values() if isinstance(command, click.Group) else [command]
    without = [
        leaf.name
        for leaf in leaves
        if leaf and not any(parameter.name == "as_json" for parameter in leaf.params)
    ]
    assert without == []


def test_an_unknown_noun_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["modle"]) == 2
    assert "No such command 'modle'" in capsys.readouterr().err


def test_an_explained_error_is_one_line_and_exit_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def doctor() -> None:
        raise NotFound("no model\n 'digit' here", "edgekit model list shows what there is")

    monkeypatch.setattr("edgekit.cli.doctor.doctor", doctor)
    assert app.run(["doctor"]) == 1
    expected = "edgekit: no model 'digit' here; edgekit model list shows what there is\n"
    assert capsys.readouterr().err == expected
