"""The warm server: has imported what commands use, and forks for each of them.

It has one thread, no database and no connection open but those to its clients, and reads nothing
from them: that is left to the forks.
"""

import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgekit.warm.client import ENDED, bearing, folder, peer, private, socket_path, stamp
from edgekit.warm.fork import Imported, run_command, tell

# What commands import when they are run. No numpy: it starts threads.
_USED = (
    *("edgekit.fleet.planning", "edgekit.manifest.checks", "edgekit.oci.signers"),
    *("edgekit.packager.deliver", "edgekit.packager.image", "edgekit.packager.papers"),
    *("edgekit.packager.plan", "edgekit.registry", "edgekit.workspace", "httpcore"),
    *("rich.progress", "rich.status", "rich.table", "sqlalchemy.dialects.sqlite", "yaml"),
)


def serve() -> None:
    """Import, listen, let go of the standard files, and fork until idle or told to end.

    `sys.argv[1]` is after how many seconds without a command. Whoever starts it reads why it cannot
    serve, or nothing.
    """
    imported = _import_all()
    if not private(folder()):
        sys.exit(f"{folder()} is not a folder of yours alone")
    listener = socket.socket(socket.AF_UNIX)
    path = Path(socket_path())
    unnamed = path.with_suffix(f".{os.getpid()}")
    listener.bind(str(unnamed))
    listener.listen(64)
    unnamed.replace(path)  # whatever a killed one left
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.close(nothing)
    gc.collect()
    gc.freeze()  # what the collector does not touch stays shared with the forks
    Server(listener, path, imported).run(float(sys.argv[1]))


def _import_all() -> Imported:
    began = time.time_ns()
    with _noted() as asked:
        from edgekit.cli.app import NOUNS

        for name in (*(module for module, _line in NOUNS.values()), *_USED):
            importlib.import_module(name)
    files = {vars(module).get("__file__") for module in list(sys.modules.values())}
    stamps = {file: stamp(file) for file in files if file}
    if max(changed for _inode, _size, changed in stamps.values()) > began:
        sys.exit("edgekit's files are being changed")
    (_alone,) = Path("/proc/self/task").iterdir()  # what a thread holds, no fork gets back
    environment = {name: os.environb.get(name) for name in asked}
    return Imported(os.getpid(), bearing(), environment, stamps)


@contextmanager
def _noted() -> Iterator[set[bytes]]:
    """The variables that are asked for in the block: what it imports may depend on them."""
    asked: set[bytes] = set()
    environment: Any = os.environ
    encode = environment.encodekey

    def noted(name: str) -> bytes:
        asked.add(encode(name))
        return os.fsencode(name)

    environment.encodekey = noted
    yield asked
    environment.encodekey = encode


class Server:
    """Forks for each connection.

    Args:
        listener: takes the connections.
        path: of its socket.
        imported: what each fork begins with.
    """

    def __init__(self, listener: socket.socket, path: Path, imported: Imported) -> None:
        self._listener, self._path, self._imported = listener, path, imported
        self._inode = path.stat().st_ino
        self._signals, self._signalling = socket.socketpair()
        self._signalling.setblocking(False)
        self._poll = select.poll()
        # by the number of the connection, which is only watched for its end
        self._commands: dict[int, tuple[socket.socket, int]] = {}
        self._listening = True

    def run(self, idle: float) -> None:
        """Fork until told to end, or for `idle` seconds without a command."""
        for each in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(each, lambda _number, _frame: None)
        signal.set_wakeup_fd(self._signalling.fileno())
        for watched in (self._listener, self._signals):
            self._poll.register(watched, select.POLLIN)
        while self._listening or self._commands:
            ready = self._poll.poll(None if self._commands else idle * 1000)
            if not ready:
                self._stop()
            for number, _event in ready:
                if number == self._signals.fileno():
                    self._signalled()
                elif number in self._commands:
                    self._vanished(number)
                elif number == self._listener.fileno():
                    self._accept()

    def _accept(self) -> None:
        with suppress(OSError):  # the client runs its command itself
            connection, _address = self._listener.accept()
            if peer(connection)[1] != os.geteuid():
                connection.close()
                return
            process = os.fork()
            if not process:
                self._let_go()
                run_command(connection, self._imported)
            self._commands[connection.fileno()] = connection, process
            self._poll.register(connection, select.POLLRDHUP)

    def _let_go(self) -> None:
        """Close in the fork what is the server's."""
        signal.set_wakeup_fd(-1)
        others = (connection for connection, _process in self._commands.values())
        for each in (self._listener, self._signals, self._signalling, *others):
            each.close()

    def _vanished(self, number: int) -> None:
        """What becomes of a command when its client is killed."""
        self._poll.unregister(number)
        os.kill(self._commands[number][1], signal.SIGKILL)

    def _signalled(self) -> None:
        if signal.SIGTERM in self._signals.recv(4096):
            self._stop()
        for number, (connection, process) in list(self._commands.items()):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                del self._commands[number]
                with suppress(KeyError):  # its client has vanished
                    self._poll.unregister(number)
                with suppress(OSError):
                    tell(connection, ENDED, os.waitstatus_to_exitcode(status))
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()

    def _stop(self) -> None:
        """Take no more commands; those that run are waited for."""
        if not self._listening:
            return
        self._listening = False
        self._poll.unregister(self._listener)
        self._listener.close()
        with suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:  # none of a newer server
                self._path.unlink()
