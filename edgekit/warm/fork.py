"""A fork of the warm server: becomes what its client was started as, and runs its command."""

import atexit
import fcntl
import io
import marshal
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TextIO

from edgekit.warm.client import (
    ANSWER,
    ENDED,
    FORWARDED,
    GO,
    GREETING,
    STALE,
    UNLIKE,
    patience,
    stamp,
)


@dataclass(frozen=True)
class Imported:
    """What a fork begins with.

    Args:
        server: its process.
        bearing: of the server; see `edgekit.warm.client.bearing`.
        environment: the variables that were asked for by what was imported.
        files: what was imported, and how the files were then.
    """

    server: int
    bearing: str
    environment: Mapping[bytes, bytes | None]
    files: Mapping[str, tuple[int, int, int]]

    def fits(self, bearing: str, environment: Mapping[bytes, bytes]) -> bool:
        """Whether a command that was started so would have imported the same."""
        return bearing == self.bearing and all(
            environment.get(name) == value for name, value in self.environment.items()
        )

    def stale(self) -> bool:
        """Whether a file is another now."""
        try:
            return any(stamp(file) != then for file, then in self.files.items())
        except OSError:
            return True


def run_command(connection: socket.socket, imported: Imported) -> NoReturn:
    """Take a command from a client and run it, and end as it does."""
    status = 1
    try:
        connection.settimeout(patience())
        tell(connection, GREETING, 0)
        (bearing, environment, *more), files = _received(connection)
        if not imported.fits(bearing, environment):
            tell(connection, ANSWER, UNLIKE)
        elif imported.stale():
            os.kill(imported.server, signal.SIGTERM)
            tell(connection, ANSWER, STALE)
        else:
            connection = _become(connection, files, environment, *more)
            tell(connection, ANSWER, os.getpid())
            if connection.recv(1) == GO:
                status = _run()
                # the server tells it too, unless it has been killed meanwhile
                tell(connection, ENDED, status)
    finally:
        os._exit(status)


def tell(connection: socket.socket, kind: bytes, number: int) -> None:
    """Send the client a `GREETING`, an `ANSWER`, or how the command has `ENDED`."""
    connection.sendall(kind + number.to_bytes(4, sys.byteorder, signed=True))


def _received(connection: socket.socket) -> tuple[Any, list[int]]:
    """What a client sent, and the files that came with it: its folder, then those it has open."""
    head, files, _flags, _address = socket.recv_fds(connection, 8, 253)
    left = int.from_bytes(head, sys.byteorder)
    data = bytearray()
    while left > len(data):
        piece = connection.recv(left - len(data))
        if not piece:
            raise EOFError
        data += piece
    return marshal.loads(data), files  # noqa: S302 - from a process of the same user


def _become(
    connection: socket.socket,
    files: Sequence[int],
    environment: Mapping[bytes, bytes],
    arguments: list[str],
    path: list[str],
    umask: int,
    ignored: Sequence[int],
    numbers: Sequence[int],
) -> socket.socket:
    """Take over what the client has from its parent; the connection, out of the files' way."""
    os.setpgid(0, 0)  # no session: its leader would belong to the first terminal it opens
    here, *passed = files
    os.fchdir(here)
    os.close(here)
    above = max(numbers) + 1
    moved = socket.socket(fileno=fcntl.fcntl(connection, fcntl.F_DUPFD_CLOEXEC, above))
    moved.settimeout(patience())
    connection.close()
    held = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, above) for file in passed]
    for file in passed:
        os.close(file)
    for file, number in zip(held, numbers, strict=True):
        os.dup2(file, number)
        os.close(file)
    sys.stdin, sys.stdout, sys.stderr = (_standard(number) for number in (0, 1, 2))
    os.environ.clear()
    os.environb.update(environment)
    time.tzset()
    os.umask(umask)
    sys.argv[:], sys.path[:] = arguments, path
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in FORWARDED:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in ignored else usual)
    return moved


def _standard(number: int) -> TextIO:
    """A standard file as the interpreter opens it when it starts."""
    usual = (sys.__stdin__, sys.__stdout__, sys.__stderr__)[number]
    assert usual is not None
    unbuffered = usual.write_through
    raw = os.fdopen(
        number, "wb" if number else "rb", 0 if unbuffered and number else -1, closefd=False
    )
    return io.TextIOWrapper(
        raw,
        usual.encoding,
        usual.errors,
        newline="\n",
        line_buffering=number == 2 or (number == 1 and raw.isatty()),
        write_through=unbuffered,
    )


def _run() -> int:
    """The command itself; its exit code."""
    from edgekit.cli.app import main

    status = 0
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    # as the interpreter ends, but that it would clear all modules
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return 120
    return status
