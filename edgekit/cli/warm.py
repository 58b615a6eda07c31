"""`edgekit warm`: a process that has imported edgekit already, and runs commands at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click

from edgekit.cli.output import json_option, print_json, say
from edgekit.errors import EdgekitError
from edgekit.warm import client

_STOPPING = 5.0  # seconds until it listens no more


@click.group()
def warm() -> None:
    """Keep a process that has imported edgekit, and forks for each command.

    While it runs, your commands of this installation begin at once. It listens in a folder of yours
    alone, and ends when it is not used, or when the files it has imported change; commands then run
    as without it. EDGEKIT_WARM=0 has a command run without it.

    \b
    Examples:
      edgekit warm start
      edgekit image build digits:2 --push registry.example.com/digits:2
      edgekit warm status
      edgekit warm stop
    """


@warm.command()
@click.option(
    "--idle",
    type=click.FloatRange(min=0, min_open=True),
    default=30,
    show_default=True,
    help="Minutes without a command after which it ends.",
)
@json_option
def start(idle: float, as_json: bool) -> None:
    """Start it, in place of one that runs.

    \b
    Examples:
      edgekit warm start
      edgekit warm start --idle 480
    """
    folder = Path(client.folder())
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise EdgekitError(f"cannot make {folder}: {error.strerror}") from error
    if not client.private(str(folder)):
        raise EdgekitError(f"{folder} is not a folder of yours alone", "remove it")
    _stop()
    program = "from edgekit.warm.server import serve; serve()"
    server = subprocess.Popen(
        [sys.executable, "-c", program, str(idle * 60)],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    assert server.stdout is not None
    # until it closes them: then it listens
    if problem := server.stdout.read().strip():
        raise EdgekitError(f"the warm server did not start: {problem.splitlines()[-1]}")
    if as_json:
        print_json({"process": server.pid})
    else:
        say(f"runs as process {server.pid}")


@warm.command()
@json_option
def stop(as_json: bool) -> None:
    """Have it end; commands that it runs go on.

    \b
    Examples:
      edgekit warm stop
    """
    stopped = _stop()
    if as_json:
        print_json({"stopped": stopped})
    else:
        say("stopped" if stopped else "does not run")


@warm.command()
@json_option
def status(as_json: bool) -> None:
    """Say whether it runs, and takes commands of this shell.

    \b
    Examples:
      edgekit warm status
      edgekit warm status --json
    """
    server = client.connect()
    if server is None:
        process, takes, memory = None, False, 0
    else:
        process, _user = client.peer(server)
        takes = client.ask(server, go=b"") > 0
        memory = _memory(process)
        server.close()
    if as_json:
        print_json({"process": process, "takes_commands": takes, "memory_bytes": memory})
    elif process is None:
        click.echo("does not run")
    else:
        taken = "takes" if takes else "does not take"
        click.echo(f"process {process}, {memory / 1e6:.0f} MB, {taken} commands of this shell")


def _memory(process: int) -> int:
    """The bytes of memory that a process has to itself or shares."""
    pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _stop() -> bool:
    """Have a server stop listening; whether there was one."""
    server = client.connect()
    if server is None:
        return False
    process, _user = client.peer(server)
    server.close()
    os.kill(process, signal.SIGTERM)
    until = time.monotonic() + _STOPPING
    while Path(client.socket_path()).exists():
        if time.monotonic() > until:
            raise EdgekitError(f"process {process} does not end", f"kill -9 {process}")
        time.sleep(0.01)
    return True
