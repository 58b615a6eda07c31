"""Writes docs/commands.md from the help of every command; a test holds the two together."""

from collections.abc import Iterator
from pathlib import Path

import click

from edgekit.cli.app import edgekit

TARGET = Path(__file__).with_name("commands.md")


def reference() -> str:
    """The whole reference page, Markdown."""
    pages = _pages(edgekit, click.Context(edgekit, info_name="edgekit", **edgekit.context_settings))
    return "# Commands\n\nMade from the commands' own help by `make docs`.\n\n" + "\n".join(pages)


def _pages(command: click.Command, context: click.Context) -> Iterator[str]:
    context.terminal_width = 100
    level = "#" * min(context.command_path.count(" ") + 2, 4)
    yield f"{level} {context.command_path}\n\n```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in sorted(command.list_commands(context)):
            verb = command.get_command(context, name)
            assert verb is not None
            yield from _pages(verb, click.Context(verb, info_name=name, parent=context))


if __name__ == "__main__":
    TARGET.write_text(reference())
