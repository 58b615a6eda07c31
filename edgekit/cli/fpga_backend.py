"""What commands that run FPGA packages share: where a package is, what it runs on."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgekit.cli.registered import open_registry

if TYPE_CHECKING:
    from edgekit.registry.records import ModelRef

F = TypeVar("F", bound=Callable[..., Any])


def backend_options(command: F) -> F:
    """Add the options that say what the NPU stage runs on."""
    for option in (
        click.option("--baud", default=0, help="Its speed; 0 is what its board file says."),
        click.option("--device", default="", help="Serial device of a board: /dev/ttyUSB0."),
        click.option(
            "--backend",
            type=click.Choice(["interpreter", "rtl", "board"]),
            default="interpreter",
            show_default=True,
            help="rtl simulates the NPU's Verilog, board drives a real one; both count cycles.",
        ),
    ):
        command = option(command)
    return command


def package_file(package: str) -> "tuple[Path, ModelRef | None]":
    """The file of the package a command names, and what it is registered as.

    Args:
        package: a path, or `NAME:VERSION[@BOARD]` in the registry.

    Raises:
        ModelError: a version that was compiled for several boards, and none is named.
        NotFound: no such version, or no package of it.
    """
    path = Path(package)
    if path.exists() or "/" in package or path.suffix == ".npu":
        return path, None
    from edgekit.packager.fpga import stored_package

    found, record = stored_package(open_registry(), package)
    return found, record.model
