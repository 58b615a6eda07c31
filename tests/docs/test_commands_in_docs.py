"""What the documents say of the command is what the command takes."""

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from edgekit.cli.app import edgekit

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _shown_commands() -> Iterator[tuple[str, str]]:
    """(page, command) for every `edgekit ...` line in a console block of the documents."""
    for page in PAGES:
        if page.name == "commands.md":
            continue
        for block in re.findall(r"```(?:console|sh|bash)\n(.*?)```", page.read_text(), re.DOTALL):
            joined = re.sub(r"\\\n\s*", "", block)
            for line in joined.splitlines():
                command = re.match(r"(?:\$ )?(edgekit .*)", line)
                if command:
                    yield str(page.relative_to(ROOT)), command[1].split("  #")[0].split(" | ")[0]


@pytest.mark.parametrize(("page", "line"), list(_shown_commands()))
def test_a_shown_command_is_one_the_command_takes(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command: click.Command = edgekit
    context = click.Context(edgekit, info_name="edgekit", **edgekit.context_settings)
    while True:
        _, words, _ = command.make_parser(context).parse_args(words)
        if not (isinstance(command, click.Group) and words):
            break
        name, found, words = command.resolve_command(context, words)
        assert found is not None, f"{page}: {line}: no such command as {name}"
        command, context = found, click.Context(found, info_name=name, parent=context)


def test_the_reference_is_made_from_the_help() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))["reference"]()
    assert (ROOT / "docs" / "commands.md").read_text() == made


def _prose(page: Path) -> str:
    """The page without its code."""
    return re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)


def test_every_relative_link_leads_somewhere() -> None:
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in [*PAGES, ROOT / "CONTRIBUTING.md"]
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", _prose(page))
        if not (page.parent / target).exists()
    ]
    assert dead == []
