"""`edgekit demo`: the whole line, on this machine."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from edgekit.cli.output import json_option, print_json, print_table, say

if TYPE_CHECKING:
    from rich.progress import Progress


@click.command()
@click.option(
    "--engine",
    type=click.Choice(["auto", "docker", "process"]),
    default="auto",
    show_default=True,
    help="What runs the modules; auto takes Docker where an engine answers.",
)
@click.option("--devices", type=click.IntRange(1, 20), default=3, show_default=True)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the workspace, the hub's state and the devices' logs in this folder.",
)
@json_option
def demo(engine: str, devices: int, keep: Path | None, as_json: bool) -> int:
    """Run the whole line on this machine: from a registered model to telemetry in the cloud.

    \b
    Examples:
      edgekit demo
      edgekit demo --engine process --keep /tmp/line
      edgekit demo --json

    A handwritten-digit net is registered, quantized, compiled for the NPU and packed into an image;
    a fleet file rolls it out through a local IoT Hub to simulated devices; these score the test
    images while the network to the hub is cut. Exits 1 when any number is not what it must be.
    """
    from edgekit_sim.demo.line import Settings, run

    with Stages() as stages:
        report = run(Settings(engine=engine, devices=devices, keep=keep), stages)
    if as_json:
        print_json(report.as_json())
    else:
        print_table("The line, end to end", ("What", "Value"), report.rows())
    for failure in report.failures():
        say(f"edgekit: demo: {failure}")
    return 1 if report.failures() else 0


class Stages:
    """The demo's watcher: a bar for each stage on a terminal, a line for each otherwise."""

    def __init__(self) -> None:
        import sys

        self._bars = _bars() if sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._bars:
            self._bars.stop()

    @contextmanager
    def stage(self, label: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """A bar that fills to `total`, or runs until the stage ends."""
        began = time.monotonic()
        if self._bars is None:
            yield lambda _step: None
            say(f"{label}: {time.monotonic() - began:.1f} s")
            return
        bars = self._bars
        task = bars.add_task(label, total=total, found="")
        yield lambda step: bars.advance(task, step)
        filled = total or 1
        bars.update(task, total=filled, completed=filled)

    def found(self, text: str) -> None:
        """Beside the bar of the newest stage, or a line in the log."""
        if self._bars is None:
            say(f"  {text}")
        else:
            self._bars.update(self._bars.task_ids[-1], found=text)


def _bars() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[found]}", markup=True),
        console=Console(stderr=True),
    )
