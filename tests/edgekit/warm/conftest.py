"""A warm server of the tests' own, and commands that are run with it and without."""

import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edgekit.warm.client import PATIENCE

EDGEKIT = (sys.executable, "-m", "edgekit")


@dataclass(frozen=True)
class Shell:
    """Starts commands in one environment.

    Attributes:
        environment: of the commands.
    """

    environment: Mapping[str, str] = field(default_factory=dict)

    def start(self, *arguments: str, warm: bool = True, **options: Any) -> subprocess.Popen[bytes]:
        """Start `edgekit ARGUMENTS`, in a fork of the server or in the ordinary way."""
        usual = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "env": self._switched(warm),
            "cwd": "/",
        }
        return subprocess.Popen([*EDGEKIT, *arguments], **(usual | options))

    def run(self, *arguments: str, warm: bool = True, **options: Any) -> tuple[int, bytes, bytes]:
        """Run it to its end: exit code, stdout, stderr."""
        with self.start(*arguments, warm=warm, **options) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def on_terminal(self, folder: Path, *arguments: str, warm: bool = True) -> tuple[int, int]:
        """Start it on a terminal of its own: the process, and the terminal's other end."""
        process, terminal = pty.fork()
        if not process:
            os.chdir(folder)
            os.execve(EDGEKIT[0], [*EDGEKIT, *arguments], self._switched(warm))
        return process, terminal

    def _switched(self, warm: bool) -> dict[str, str]:
        return {**self.environment, PATIENCE: "60"} if warm else {**self.environment, PATIENCE: "0"}

    def status(self) -> dict[str, Any]:
        """What `edgekit warm status` says."""
        return dict(json.loads(self.run("warm", "status", "--json")[1]))

    def forks(self) -> list[int]:
        """The processes that run commands now."""
        server = self.status()["process"]
        children = Path(f"/proc/{server}/task/{server}/children").read_text()
        return [int(process) for process in children.split()]


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    """A shell whose user has no server; one that is started is stopped at the end."""
    # a socket's path is short
    folder = tempfile.mkdtemp(prefix="edgekit-")
    shell = Shell({**os.environ, "XDG_RUNTIME_DIR": folder})
    yield shell
    shell.run("warm", "stop")
    shutil.rmtree(folder)


@pytest.fixture
def warm(shell: Shell) -> Shell:
    """A shell whose user has a server."""
    if shell.status()["process"] is None:
        assert shell.run("warm", "start")[0] == 0
    return shell
