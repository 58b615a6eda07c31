"""The frame of the command: help, exit codes, one line for an error."""

import subprocess
import sys
from collections.abc import Iterator

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


def _commands(
    command: click.Command = app.edgekit, path: str = "edgekit"
) -> Iterator[tuple[str, click.Command]]:
    """(its full name, command) for every command that is no group."""
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _commands(found, f"{path} {name}")


ALL = list(_commands())


@pytest.mark.parametrize(("path", "command"), ALL, ids=[path for path, _ in ALL])
def test_every_command_opens_its_help_with_an_example(path: str, command: click.Command) -> None:
    assert f"  {path}" in (command.help or "")


@pytest.mark.parametrize(("path", "command"), ALL, ids=[path for path, _ in ALL])
def test_every_command_speaks_json(path: str, command: click.Command) -> None:
    assert "as_json" in [parameter.name for parameter in command.params], path


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
