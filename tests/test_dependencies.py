"""What the packages import is what pyproject.toml declares."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {
    "edgekit": ROOT / "edgekit",
    "edgekit_runtime": ROOT / "modules/edgekit_runtime",
    "edgekit_fpga": ROOT / "fpga/edgekit_fpga",
    "edgekit_sim": ROOT / "simulators/edgekit_sim",
}
# which requirements each package may count on; the runtime's are what an image holds
EXTRAS = {
    "edgekit": ("", "azure", "pkcs11", "runtime", "sim"),
    "edgekit_runtime": ("runtime", "grpc"),
    "edgekit_fpga": ("", "fpga", "synthesis"),
    "edgekit_sim": ("", "azure", "runtime", "sim"),
}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _declared(extra: str) -> set[str]:
    lines = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    names = (re.match(r"[A-Za-z0-9._-]+", line) for line in lines)
    return {_canonical(name[0]) for name in names if name}


def _imported(folder: Path) -> Iterator[str]:
    """Dotted names of modules that files below `folder` import, those of typing apart."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _distributions(module: str, known: dict[str, list[str]]) -> set[str]:
    top = module.split(".")[0]
    if top == "azure":  # a namespace that several distributions share
        return {"-".join(module.split(".")[:3])}
    return {_canonical(name) for name in known.get(top, [top])}


@pytest.mark.parametrize("package", sorted(OURS))
def test_every_import_is_declared(package: str) -> None:
    known = packages_distributions()
    declared = set().union(*(_declared(extra) for extra in EXTRAS[package]))
    undeclared = {
        module
        for module in _imported(OURS[package])
        if (top := module.split(".")[0]) not in sys.stdlib_module_names and top not in OURS
        if top != "_typeshed"  # exists for type checkers alone
        if not _distributions(module, known) & declared
    }
    # edgekit_sim.iothub.pytest_plugin is loaded by pytest alone
    undeclared.discard("pytest")
    assert undeclared == set()
