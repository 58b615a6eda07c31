"""Reads a scoring script without running it: `init()` and `run(data)`, as Azure ML has them."""

import ast
from pathlib import Path

from edgekit.errors import ModelError

_NEEDED = {"init": 0, "run": 1}


def check_score(path: Path, shown: Path | None = None) -> None:
    """Hold that the script at `path` is Python, and has `init()` and `run(data)`.

    Args:
        path: the file to read.
        shown: what messages call it, where it is a copy of something else.

    Raises:
        ModelError: it is not, or has not.
    """
    name = shown or path
    try:
        module = ast.parse(path.read_bytes(), str(name))
    except SyntaxError as error:
        raise ModelError(
            f"{name} is no Python program: {error.msg} (line {error.lineno})",
            hint=f"find it with: python -m py_compile {name}",
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ModelError(f"{name} is no Python program: {error}") from error
    defined = _defined(module)
    for function, parameters in _NEEDED.items():
        if function not in defined:
            raise ModelError(
                f"{name} has no {function}()",
                hint="a scoring script has init(), called once, and run(data), called for each "
                "request",
            )
        definition = defined[function]
        if isinstance(definition, ast.FunctionDef) and not _takes(definition.args, parameters):
            raise ModelError(
                f"{name} has a {function}() that cannot be called with {parameters} arguments "
                f"(line {definition.lineno})",
                hint="write it as init() and run(data)",
            )


def _defined(module: ast.Module) -> dict[str, ast.AST]:
    """The names that the script gives a meaning at its top level."""
    found: dict[str, ast.AST] = {}
    for node in ast.walk(module):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.setdefault(node.name, node)
            case ast.alias():
                found.setdefault((node.asname or node.name).partition(".")[0], node)
                if node.name == "*":
                    found.update(dict.fromkeys(_NEEDED, node))
            case ast.Name(ctx=ast.Store()):
                found.setdefault(node.id, node)
    return found


def _takes(arguments: ast.arguments, count: int) -> bool:
    """Whether a function with these parameters can be called with `count` values in a row."""
    places = [*arguments.posonlyargs, *arguments.args]
    needed = len(places) - len(arguments.defaults)
    alone = sum(default is None for default in arguments.kw_defaults)
    return needed <= count and (count <= len(places) or bool(arguments.vararg)) and not alone
