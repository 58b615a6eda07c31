"""Commands in forks of the warm server are the commands that they are without it."""

import contextlib
import os
import select
import shutil
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import edgekit
from edgekit.registry import Registry
from edgekit.warm import client
from edgekit.workspace import Workspace
from tests.edgekit.warm.conftest import Shell

MANIFEST = b'{"modulesContent": {}}'
CHECK = ("manifest", "check", "pipe.json")


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """What `CHECK` reads in this folder, and waits for."""
    path = tmp_path / "pipe.json"
    os.mkfifo(path)
    return path


def until(condition: Callable[[], Any]) -> None:
    """Wait for what must come about."""
    latest = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < latest
        time.sleep(0.01)


def ended(process: int, terminal: int) -> tuple[int, bytes]:
    """The exit code of a command on a terminal, and all it has shown."""
    shown = b""
    with contextlib.suppress(OSError):  # nobody has the terminal open any more
        while piece := os.read(terminal, 4096):
            shown += piece
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), shown


def state(process: int) -> str:
    """Of a process, as `ps` shows it."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("model", "list", "--json"),
        ("model", "show", "none:1"),
        ("model", "nonsense"),
        ("manifest", "check", "/dev/stdin"),
        ("manifest", "check", "/dev/fd/90"),
    ],
)
def test_output_and_exit_code_are_the_same(
    warm: Shell, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    Registry.open(Workspace.create(tmp_path / ".edgekit"))

    def run(warmly: bool) -> tuple[int, bytes, bytes]:
        reading, writing = os.pipe()
        os.write(writing, b"name: [1")
        os.close(writing)
        os.dup2(reading, 90)
        try:
            return warm.run(*arguments, warm=warmly, cwd=tmp_path, stdin=reading, pass_fds=[90])
        finally:
            os.close(reading)
            os.close(90)

    assert run(True) == run(False)


def test_two_commands_run_at_once_in_two_forks(warm: Shell, tmp_path: Path) -> None:
    commands, writers = [], []
    for name in ("first.json", "second.json"):
        os.mkfifo(tmp_path / name)
        commands.append(warm.start("manifest", "check", name, cwd=tmp_path))
        writers.append((tmp_path / name).open("wb"))  # waits for the reader

    until(lambda: len(warm.forks()) == 2)
    ends = []
    for command, writer in reversed(list(zip(commands, writers, strict=True))):
        writer.write(MANIFEST)
        writer.close()
        ends.append((command.wait(60), command.communicate()[1]))
    assert ends == [
        (0, b"second.json: 0 errors, 0 warnings\n"),
        (0, b"first.json: 0 errors, 0 warnings\n"),
    ]


def test_folder_environment_and_umask_are_the_clients(warm: Shell, tmp_path: Path) -> None:
    made = []
    for name, warmly in (("warm", True), ("cold", False)):
        folder = tmp_path / name
        folder.mkdir()
        secret = Shell({**warm.environment, "EDGEKIT_SIGNING_PASSWORD": "secret"})
        end = secret.run("image", "keygen", "k", warm=warmly, cwd=folder, umask=0o027)
        key = (folder / "k").read_bytes()
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()}
        made.append((end[0], b"ENCRYPTED" in key, modes))

    assert made == 2 * [(0, True, {"k": 0o600, "k.pub": 0o640})]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Commands do not inherit that SIGINT is ignored, as tests do that run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("warmly", [True, False])
def test_ctrl_c_on_the_terminal_ends_a_command(warm: Shell, pipe: Path, warmly: bool) -> None:
    process, terminal = warm.on_terminal(pipe.parent, *CHECK, warm=warmly)
    with pipe.open("wb"):  # it reads
        os.write(terminal, b"\x03")
        status, shown = ended(process, terminal)

    assert (status, shown.splitlines()[-1]) == (130, b"edgekit: interrupted")


def test_a_terminal_is_one_for_the_command(warm: Shell, tmp_path: Path) -> None:
    registry = Registry.open(Workspace.create(tmp_path / ".edgekit"))
    registry.register(Path(__file__), "script", framework="text")
    outcomes = [
        ended(*warm.on_terminal(tmp_path, "model", "list", warm=warmly)) for warmly in (True, False)
    ]

    assert outcomes[0] == outcomes[1]
    assert b"\x1b[1m" in outcomes[0][1]  # bold, which no file gets


def test_a_stopped_command_goes_on(warm: Shell, pipe: Path) -> None:
    command = warm.start(*CHECK, cwd=pipe.parent)
    with pipe.open("wb") as writer:
        (fork,) = warm.forks()
        command.send_signal(signal.SIGTSTP)
        _process, status = os.waitpid(command.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        until(lambda: state(fork) == "T")
        command.send_signal(signal.SIGCONT)
        writer.write(MANIFEST)

    assert command.wait(60) == 0
    command.communicate()


@pytest.mark.parametrize("warmly", [True, False])
def test_a_command_that_handles_a_signal_gets_it(warm: Shell, tmp_path: Path, warmly: bool) -> None:
    command = warm.start("sim", "registry", "--port", "0", warm=warmly, cwd=tmp_path)
    assert command.stdout is not None
    assert b"OCI registry at" in command.stdout.readline()
    command.terminate()

    assert command.wait(60) == 0
    command.communicate()


def test_a_command_dies_with_its_client(warm: Shell, pipe: Path) -> None:
    command = warm.start(*CHECK, cwd=pipe.parent)
    with pipe.open("wb") as writer:
        command.kill()
        gone = select.poll()
        gone.register(writer, select.POLLERR)
        assert gone.poll(60_000) == [(writer.fileno(), select.POLLERR)]
    command.communicate()


def test_a_client_dies_as_its_command(warm: Shell, pipe: Path) -> None:
    command = warm.start(*CHECK, cwd=pipe.parent)
    with pipe.open("wb"):
        (fork,) = warm.forks()
        os.kill(fork, signal.SIGKILL)

        assert command.wait(60) == -signal.SIGKILL
    command.communicate()


def test_a_command_outlives_the_server(warm: Shell, pipe: Path) -> None:
    command = warm.start(*CHECK, cwd=pipe.parent)
    with pipe.open("wb") as writer:
        os.kill(warm.status()["process"], signal.SIGKILL)
        until(lambda: warm.status()["process"] is None)
        writer.write(MANIFEST)
    end = command.communicate(timeout=60)

    assert (command.returncode, end) == (0, (b"", b"pipe.json: 0 errors, 0 warnings\n"))


def test_a_command_is_run_without_what_is_left_of_a_killed_server(warm: Shell) -> None:
    server = warm.status()["process"]
    os.kill(server, signal.SIGKILL)
    until(lambda: warm.status()["process"] is None)

    assert warm.run("--version") == warm.run("--version", warm=False)
    assert warm.run("warm", "start")[0] == 0
    assert warm.status()["takes_commands"]


def test_a_stopped_server_finishes_what_it_runs(warm: Shell, pipe: Path) -> None:
    command = warm.start(*CHECK, cwd=pipe.parent)
    with pipe.open("wb") as writer:
        assert warm.run("warm", "stop") == (0, b"", b"stopped\n")
        assert warm.run("warm", "stop") == (0, b"", b"does not run\n")
        writer.write(MANIFEST)

    assert command.wait(60) == 0
    command.communicate()


def test_a_server_that_does_not_answer_is_not_waited_for(warm: Shell) -> None:
    server = warm.status()["process"]
    os.kill(server, signal.SIGSTOP)
    hasty = {**warm.environment, client.PATIENCE: "0.1"}
    try:
        assert warm.run("--version", env=hasty) == warm.run("--version", warm=False)
    finally:
        os.kill(server, signal.SIGCONT)


def test_an_idle_server_ends(shell: Shell) -> None:
    assert shell.run("warm", "start", "--idle", "0.001")[0] == 0
    until(lambda: not list(Path(shell.environment["XDG_RUNTIME_DIR"], "edgekit").iterdir()))


@pytest.mark.parametrize(
    ("name", "value"), [("HOME", "/"), ("LC_ALL", "C"), ("PYTHONWARNINGS", "always")]
)
def test_no_fork_stands_in_for_another_start(warm: Shell, name: str, value: str) -> None:
    other = Shell({**warm.environment, name: value})

    assert (warm.status()["takes_commands"], other.status()["takes_commands"]) == (True, False)
    assert other.run("--version")[0] == 0


def test_changed_files_end_the_server(shell: Shell, tmp_path: Path) -> None:
    package = Path(edgekit.__file__).parent
    shutil.copytree(package, tmp_path / "edgekit", ignore=shutil.ignore_patterns("__pycache__"))
    copy = Shell({**shell.environment, "PYTHONPATH": str(tmp_path)})
    assert copy.run("warm", "start")[0] == 0
    server = copy.status()["process"]
    with (tmp_path / "edgekit" / "workspace.py").open("a") as file:
        file.write("\n")

    code, out, err = copy.run("--version")
    assert (code, out) == copy.run("--version", warm=False)[:2]
    assert err == b"edgekit: the warm server is out of date and has ended: edgekit warm start\n"
    until(lambda: not Path(f"/proc/{server}").exists())
    assert copy.status()["process"] is None


def test_a_folder_of_others_is_not_used(warm: Shell, tmp_path: Path) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir()
    other = Shell({**warm.environment, "XDG_RUNTIME_DIR": str(runtime)})
    real = Path(warm.environment["XDG_RUNTIME_DIR"], "edgekit")
    (runtime / "edgekit").symlink_to(real)  # its sockets are there, and answer

    assert other.status()["process"] is None
    (runtime / "edgekit").unlink()
    (runtime / "edgekit").mkdir()
    (runtime / "edgekit").chmod(0o770)
    assert other.run("warm", "start")[::2] == (
        1,
        f"edgekit: {runtime}/edgekit is not a folder of yours alone; remove it\n".encode(),
    )


def test_a_folder_of_another_user_is_not_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    assert client.private(str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not client.private(str(tmp_path))
