"""Writes docs/commands.md from the help of every command; a test holds the two together."""

from collections.abc import Iterator
from pathlib import Path

import click

from edgekit.cli.app import NOUNS, edgekit

TARGET = Path(__file__).with_name("commands.md")


def reference() -> str:
    """The whole reference page, Markdown."""
    top = click.Context(edgekit, info_name="edgekit")
    parts = ["# Commands\n\nMade from the commands' own help by `make docs`.\n"]
    for noun in sorted(NOUNS):
        command = edgekit.get_command(top, noun)
        assert command is not None
        parts.extend(_pages(command, click.Context(command, info_name=noun, parent=top)))
    return "\n".join(parts)


def _pages(command: click.Command, context: click.Context) -> Iterator[str]:
    level = (
        "##" if isinstance(command, click.Group) or context.command_path.count(" ") < 2 else "###"
    )
    context.terminal_width = 100
    yield f"{level} {context.command_path}\n\n```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name, verb in sorted(command.commands.items()):
            yield from _pages(verb, click.Context(verb, info_name=name, parent=context))


if __name__ == "__main__":
    TARGET.write_text(reference())
