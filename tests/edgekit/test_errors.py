"""The error tree and its drawing at the top of errors.py are one."""

import inspect
import re

from edgekit import errors


def _drawn() -> dict[str, int]:
    """Name -> depth, as the bullet list in the module's docstring has it."""
    lines = inspect.getdoc(errors).splitlines()  # type: ignore[union-attr]
    bullets = (re.match(r"( *)- (\w+)", line) for line in lines)
    return {bullet[2]: len(bullet[1]) // 2 for bullet in bullets if bullet}


def test_the_drawn_tree_is_the_real_one() -> None:
    real = {
        name: len(error.__mro__) - len(errors.EdgekitError.__mro__)
        for name, error in inspect.getmembers(errors, inspect.isclass)
        if issubclass(error, errors.EdgekitError)
    }
    assert _drawn() == real


def test_every_error_explains_itself() -> None:
    error = errors.NotFound("no model 'digit'", "edgekit model list")
    assert isinstance(error, errors.Explained)
    assert (str(error), error.hint) == ("no model 'digit'", "edgekit model list")
