"""What every command prints: data on stdout, messages on stderr, tables that fit 100 columns."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

WIDTH = 100
_SHORT = 30
_NUMBER = re.compile(r"-?[0-9][0-9,]*(\.[0-9]+)?")


def json_option(command: F) -> F:
    """Add `--json`, passed to the command as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")(
        command
    )


def print_json(data: Any) -> None:
    """Write `data` to stdout as one JSON document."""
    click.echo(json.dumps(data, indent=2, default=str))


def say(message: str) -> None:
    """Write a message for people to stderr."""
    click.echo(message, err=True)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table of at most 100 columns to stdout; numbers stand to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [list(row) for row in rows]
    table = Table(
        title=title or None, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD
    )
    for position, name in enumerate(columns):
        numeric = bool(cells) and all(_NUMBER.fullmatch(str(row[position])) for row in cells)
        # what a row is about is to be copied from it: it stays in one line, the others are folded
        whole = position == 0 and max((len(str(row[0])) for row in cells), default=0) <= _SHORT
        table.add_column(
            name, justify="right" if numeric else "left", overflow="fold", no_wrap=whole
        )
    for row in cells:
        # as Text, lest rich takes edgekit[sim] for its markup
        table.add_row(*(Text("-" if cell is None else str(cell)) for cell in row))
    console = Console(file=sys.stdout)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    console.print(table)


Advance = Callable[[int], None]


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Advance]:
    """A progress bar on stderr while the block runs, on a terminal only.

    Yields a function that takes how far the work has come since its last call, in the units of
    `total`.
    """
    if not sys.stderr.isatty():
        yield lambda _step: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda step: bar.advance(task, step)


@contextmanager
def phases(label: str) -> Iterator[Callable[[str], None]]:
    """A line on stderr while the block runs, on a terminal only: what is being done, and for how
    long.

    Yields a function that takes what is being done now.
    """
    if not sys.stderr.isatty():
        yield lambda _phase: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(label)
        yield lambda phase: shown.update(task, description=f"{label}: {phase}")
