"""`edgekit sim registry`: an OCI registry in a folder."""

import signal
import threading
from pathlib import Path

import click

from edgekit.cli.output import json_option, print_json, say
from edgekit.errors import OciError


@click.command()
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("registry-state"),
    show_default=True,
    help="Folder of the images.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=5000, show_default=True)
@json_option
def registry(state: Path, host: str, port: int, as_json: bool) -> None:
    """Run an OCI registry in a folder until Ctrl-C, for machines where none runs.

    \b
    Examples:
      edgekit sim registry
      edgekit sim registry --port 0 --json     a free port, said as {"address": ...}
    """
    from edgekit_sim.ociregistry import Registry

    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    try:
        with Registry(state, host, port) as running:
            if as_json:
                print_json({"address": running.address, "state_dir": str(state.absolute())})
            else:
                click.echo(f"OCI registry at {running.address}, images in {state}; Ctrl-C ends it")
                say(f"push with: edgekit image build MODEL:1 --push {running.address}/MODEL:1")
            told.wait()
    except OSError as error:
        raise OciError(
            f"cannot serve {state} at {host}:{port}: {error.strerror}", "choose another --port"
        ) from error
