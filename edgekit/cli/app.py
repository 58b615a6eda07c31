"""The top of the command: nouns loaded when they are named, errors told in one line."""

import gc
import logging
import sys
from collections.abc import Sequence
from typing import Any

import click

from edgekit.cli.lazy import LazyGroup
from edgekit.errors import Explained

_LINES = {
    "demo": "Run the whole line on this machine: model to telemetry.",
    "doctor": "Say what of this machine edgekit can use, and what is missing.",
    "fleet": "Roll manifests out to device groups.",
    "fpga": "Compile int8 graphs for the NPU and run them.",
    "image": "Turn a model version into a module image.",
    "manifest": "Generate and check deployment manifests.",
    "model": "Register, list, quantize and delete models.",
    "sim": "Run a hub, a device or an OCI registry on this machine.",
    "warm": "Keep a process that runs commands at once.",
}
# noun -> the module that has it, and its one line
NOUNS = {noun: (f"edgekit.cli.{noun}", line) for noun, line in _LINES.items()}


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"edgekit {version('edgekit')}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    modules=NOUNS,
    heading="Nouns",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--verbose", "-v", is_flag=True, help="Log to stderr what is being done.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
def edgekit(verbose: bool) -> None:
    """Take a registered model to IoT Edge devices and FPGAs, and its telemetry home.

    \b
    Examples:
      edgekit demo                                 the whole line, on this machine
      edgekit model register digits.onnx --name digits
      edgekit image build digits:1 --output oci:out
      edgekit fleet apply fleet.yaml
    """
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exit 0 done, 1 error, 2 usage, 130 interrupted."""
    # imports make a hundred thousand objects that stay: to walk them again and again, as the
    # collector would, takes a tenth of a short command's time
    gc.set_threshold(100_000)
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; an explained error becomes one line on stderr."""
    try:
        outcome: Any = edgekit.main(arguments, prog_name="edgekit", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("edgekit: interrupted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        return 1
    except Exception as error:
        if not isinstance(error, Explained):
            raise
        click.echo(f"edgekit: {_one_line(error)}", err=True)
        return 1
    return outcome if isinstance(outcome, int) else 0


def _one_line(error: Explained) -> str:
    message = " ".join(str(error).split())
    return f"{message}; {error.hint}" if error.hint else message
