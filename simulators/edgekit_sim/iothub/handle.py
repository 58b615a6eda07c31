"""A hub in a child process, for tests and demos: `with start_hub() as hub: ...`."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import edgekit_sim
from edgekit_sim.iothub.client import HubClient
from edgekit_sim.iothub.errors import HubStopped, SimulatorError

START_SECONDS = 30.0
STOP_SECONDS = 10.0


class HubHandle(HubClient):
    """A hub running in a child process, which ends with this one at the latest.

    Args:
        state_dir: the hub's folder; None for a temporary one that is removed at the end.
        bind: addresses to listen on, `auto` for a free loopback address.
        hostname: the hub's name in tokens; None for the default.
        options: more options of `python -m edgekit_sim.iothub`.
        launcher: a command that runs it, for example `["ip", "netns", "exec", "NAME"]`; it must end
            by replacing itself with the hub.
    """

    def __init__(
        self,
        state_dir: Path | str | None = None,
        bind: Sequence[str] = ("auto",),
        hostname: str | None = None,
        options: Sequence[str] = (),
        launcher: Sequence[str] = (),
    ) -> None:
        self._temporary = state_dir is None
        if state_dir is None:
            state_dir = tempfile.mkdtemp(prefix="edgekit-hub-")
        self.state_dir = Path(state_dir)
        self._options = [f"--bind={address}" for address in bind]
        if hostname is not None:
            self._options.append(f"--hostname={hostname}")
        if self._temporary:
            self._options.append("--volatile")
        self._options += options
        self._launcher = list(launcher)
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def __enter__(self) -> "HubHandle":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._temporary:
            shutil.rmtree(self.state_dir, ignore_errors=True)

    # ---- the process

    def start(self) -> None:
        """Start the hub, again after `stop` or `kill`: same state, same address.

        Raises:
            SimulatorError: it cannot start.
        """
        if self._process is not None:
            raise SimulatorError("the hub is running")
        program = [
            *self._launcher,
            sys.executable,
            "-m",
            "edgekit_sim.iothub",
            "--json",
            "--until-stdin-closes",
        ]
        self.state_dir.mkdir(parents=True, exist_ok=True)
        with (self.state_dir / "hub.log").open("a") as log:
            self._process = subprocess.Popen(
                [*program, f"--state={self.state_dir}", *self._options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": python_path()},
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.kill()
            raise SimulatorError(f"the hub did not start: {self._last_words()}")
        self.describe(json.loads(line))

    def _last_words(self) -> str:
        lines = (self.state_dir / "hub.log").read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it said nothing"

    @property
    def pid(self) -> int:
        """The hub's process id.

        Raises:
            HubStopped: it is not running.
        """
        if self._process is None:
            raise HubStopped("the hub is not running", "call start()")
        return self._process.pid

    def stop(self) -> None:
        """Stop the hub in order; what it knows stays in `state_dir`."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the hub at once, as a power cut would: kill -9."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


@contextlib.contextmanager
def start_hub(
    state_dir: Path | str | None = None,
    bind: Sequence[str] = ("auto",),
    hostname: str | None = None,
    options: Sequence[str] = (),
    launcher: Sequence[str] = (),
) -> Iterator[HubHandle]:
    """A hub in a child process for the length of a block; arguments as for `HubHandle`."""
    with HubHandle(state_dir, bind, hostname, options, launcher) as handle:
        yield handle


def python_path() -> str:
    """Where the child finds this package, wherever we were imported from."""
    package = Path(next(iter(edgekit_sim.__path__))).parent
    return os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
