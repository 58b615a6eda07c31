"""How the demo tells what it is doing, to whoever watches."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

Advance = Callable[[int], None]


class Watcher(Protocol):
    """Shows the stages of the line as they pass: bars on a terminal, lines in a log."""

    def stage(self, label: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Announce a stage for as long as the block runs.

        Args:
            label: what is being done, a few words.
            total: how much there is of it, in the units its `Advance` is called with; None where
                that shows only on the way.
        """
        ...

    def found(self, text: str) -> None:
        """Say one thing the stage found out."""
        ...
