"""A group of commands that are imported when they are used, not when the group is shown."""

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """A click group whose commands live in modules of their own.

    Args:
        modules: name of a command -> the module that has it under that name, and its one line.
        heading: stands above the list of commands in the help.
        options: as click.Group takes them.
    """

    def __init__(
        self, modules: Mapping[str, tuple[str, str]], heading: str, **options: Any
    ) -> None:
        super().__init__(**options)
        self._modules = modules
        self._heading = heading

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """The names, in alphabetical order."""
        return sorted(self._modules)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """The command called `name`, imported now."""
        if name not in self._modules:
            return None
        command = getattr(importlib.import_module(self._modules[name][0]), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their one line, importing none of them."""
        with formatter.section(self._heading):
            formatter.write_dl([(name, self._modules[name][1]) for name in sorted(self._modules)])
