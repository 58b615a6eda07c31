"""Nothing outlives its owner: not after kill -9, not after kill -9 of the whole process group.

An owner holds a `Lifeline`. Every process it starts carries the run's name in its environment and
every container in a label. A reaper, a process in a session of its own, waits for the owner's end
of a pipe to close, which the kernel does however the owner ends, and then kills all that carries
the name. Runs nest: `a/b` ends with `b`'s owner and also with `a`'s.

Linux only, as it reads `/proc/PID/environ`.
"""

import argparse
import contextlib
import logging
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

log = logging.getLogger(__name__)

VARIABLE = "EDGEKIT_RUN"
LABEL = "edgekit.run"
PATIENCE = 30.0  # seconds the reaper tries before it gives up
QUIET = 0.5  # seconds without a find until it believes that nothing is left


class Lifeline:
    """The owner's side: what is started inside the block ends with it, or with this process.

    Processes inherit the run's name from `os.environ`, where it stands inside the block; one that
    is given another environment needs `environment` in it, a container needs `labels`.

    Args:
        name: a word for the run, for people who list processes or containers.
        containers: whether containers may be started, and so have to be looked for.
    """

    def __init__(self, name: str, containers: bool = False) -> None:
        outer = os.environ.get(VARIABLE, "")
        self.run = f"{outer}/{name}-{secrets.token_hex(4)}".lstrip("/")
        self._command = [sys.executable, "-m", "edgekit_sim.lifeline", self.run]
        self._command += ["--containers"] if containers else []
        self._reaper: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a process must have in its environment to be one of the run's."""
        return {VARIABLE: self.run}

    @property
    def labels(self) -> dict[str, str]:
        """What a container must have as labels to be one of the run's."""
        return {LABEL: self.run}

    def __enter__(self) -> Self:
        environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        # not the owner's stderr: whoever reads that to its end must not wait for the reaper
        self._reaper = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
        self._outer = os.environ.get(VARIABLE)
        os.environ.update(self.environment)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """End what is left of the run; returns when it is gone."""
        if self._outer is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = self._outer
        reaper, self._reaper = self._reaper, None
        assert reaper is not None
        assert reaper.stdin is not None
        reaper.stdin.close()
        reaper.wait(PATIENCE + 10)


def processes_of(run: str) -> Iterator[int]:
    """The processes that carry the name of `run`, or of a run inside it."""
    own = f"{VARIABLE}={run}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        # a process of another user, or one that ended meanwhile
        with contextlib.suppress(OSError):
            variables = (entry / "environ").read_bytes().split(b"\0")
            if any(value == own or value.startswith(own + b"/") for value in variables):
                yield int(entry.name)


def containers_of(run: str) -> list[Any]:
    """The containers that carry the label of `run`, or of a run inside it, in any state."""
    import docker

    # the containers keep using it: it closes with the last of them
    client = docker.from_env(timeout=20)
    return [
        container
        # others may end between being listed and being looked at
        for container in client.containers.list(
            all=True, filters={"label": LABEL}, ignore_removed=True
        )
        if f"{container.labels[LABEL]}/".startswith(f"{run}/")
    ]


def reap(run: str, containers: bool) -> None:
    """Kill what belongs to `run` until nothing has been found for a while."""
    deadline = time.monotonic() + PATIENCE
    quiet_since = time.monotonic()
    while (now := time.monotonic()) < deadline and now - quiet_since < QUIET:
        found = _kill_processes(run)
        if containers:
            found |= _remove_containers(run)
        if found:
            quiet_since = time.monotonic()
        time.sleep(0.05)


def _kill_processes(run: str) -> bool:
    found = False
    for process in processes_of(run):
        found = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return found


def _remove_containers(run: str) -> bool:
    import docker

    found = False
    try:
        for container in containers_of(run):
            found = True
            # somebody else may be removing it at this moment
            with contextlib.suppress(docker.errors.APIError):
                container.remove(force=True, v=True)
    except docker.errors.DockerException as error:
        log.warning("the container engine does not answer: %s", error)
    return found


def main() -> None:
    """The reaper: wait for the end of the owner, then end its run."""
    parser = argparse.ArgumentParser(description="Ends what a run started, once its owner is gone.")
    parser.add_argument("run")
    parser.add_argument("--containers", action="store_true")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1024):
        pass
    reap(options.run, options.containers)


if __name__ == "__main__":
    main()
