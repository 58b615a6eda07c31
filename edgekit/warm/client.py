"""Hands a command to the warm server, before anything is imported that takes time.

The server listens in a folder of the user alone and forks for each connection. The fork greets and
is sent all that a process has from its parent: open files, working directory, environment,
arguments, umask. It answers with its process id, waits for a byte, runs the command and tells the
exit code. Until that byte is sent nothing has been done: whatever goes wrong before, the command is
run here, in the ordinary way. Once it is sent, it never is.
"""

import _signal  # `signal` and `socket` make enums of all constants: longer than all the rest
import _socket
import marshal
import os
import stat
import sys
import zlib

PATIENCE = "EDGEKIT_WARM"
GO = b"\n"
# what comes back: one of these, and a number
GREETING, ANSWER, ENDED = b"g", b"a", b"e"
# what the fork may answer instead of its process id
UNLIKE = 0  # this command was started in a way that no fork can take over
STALE = -1  # the server's own files have changed, and it ends

# what a terminal, or another process, tells a command
FORWARDED = (
    *(_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT),
    *(_signal.SIGTERM, _signal.SIGTSTP, _signal.SIGCONT),
)

_MOST_FILES = 200  # the kernel passes 253 at once
# variables that the interpreter and libraries in C read when they start
_EARLY = (b"PYTHON", b"LD_", b"LC_", b"LANG", b"GLIBC_", b"MALLOC_", b"OPENSSL_")
# of /proc/self/status: who this is, what it may do, and on which processors
_RIGHTS = (b"Uid", b"Gid", b"Groups", b"Cap", b"NoNewPrivs", b"Seccomp", b"Cpus_allowed:")


def patience() -> float:
    """Seconds that either end waits for the other, before the command begins."""
    try:
        asked = float(os.environ.get(PATIENCE, ""))
    except ValueError:
        asked = 0.0
    return min(asked, 3600.0) if asked > 0 else 2.0


def folder() -> str:
    """Where this user's sockets are."""
    above = os.environ.get("XDG_RUNTIME_DIR") or os.path.expanduser("~/.cache")
    return f"{above}/edgekit"


def socket_path() -> str:
    """The socket of this installation's server."""
    return f"{folder()}/warm-{zlib.crc32(f'{sys.prefix}:{__file__}'.encode()):08x}"


def private(path: str) -> bool:
    """Whether a folder is there, no link, this user's, and closed to all others."""
    try:
        held = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(held.st_mode) and held.st_uid == os.geteuid() and not held.st_mode & 0o077


def peer(connection: _socket.socket) -> tuple[int, int]:
    """Process and user at the other end."""
    said = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    process, user, _group = memoryview(said).cast("i")
    return process, user


def connect() -> _socket.socket | None:
    """A connection to this user's server; None where there is none."""
    if not private(folder()):
        return None
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(patience())
        connection.connect(socket_path())
        if peer(connection)[1] == os.geteuid():
            return connection
    except OSError:
        """Nobody listens."""
    connection.close()
    return None


def stamp(path: str) -> tuple[int, int, int]:
    """What changes with a file."""
    held = os.stat(path)
    return held.st_ino, held.st_size, held.st_mtime_ns


def bearing() -> str:
    """What a fork cannot take over: in this, server and client must have been started alike."""
    with open("/proc/self/status", "rb") as file:
        rights = [line for line in file if line.startswith(_RIGHTS)]
    with open("/proc/self/limits", "rb") as file:
        limits = file.read()
    root = os.stat("/")
    alike = (
        (stamp(sys.executable), sys.prefix, tuple(sys.path[1:]), __file__),
        (tuple(sys.flags), tuple(sys.warnoptions), tuple(sys._xoptions), _unbuffered()),
        sorted(each for each in os.environb.items() if each[0].startswith(_EARLY)),
        (root.st_dev, root.st_ino),
        [os.readlink(f"/proc/self/ns/{kind}") for kind in sorted(os.listdir("/proc/self/ns"))],
        (rights, limits, os.getpriority(os.PRIO_PROCESS, 0)),
    )
    return repr(alike)


def _unbuffered() -> bool:
    return bool(getattr(sys.stdout, "write_through", False))


def hand_over() -> None:
    """Have the server run this command, and end as it does; returns where it is to be run here."""
    if os.environ.get(PATIENCE) == "0" or sys.argv[1:2] == ["warm"]:
        return
    server = connect()
    if server is None:
        return
    # a signal that comes now reaches whoever runs the command
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, FORWARDED)
    process = ask(server, GO)
    if process > 0:
        _forward_to(process)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
    if process > 0:
        _end(server)
    server.close()
    if process == STALE:
        _say("the warm server is out of date and has ended: edgekit warm start")


def ask(server: _socket.socket, go: bytes) -> int:
    """Send what makes this process; the one that takes its place, or why none does.

    Args:
        server: a connection to it.
        go: `GO` for the command to run, nothing for it not to.
    """
    here = None
    try:
        # files that are sent to nobody would stay open
        if _told(server)[0] != GREETING:
            return UNLIKE
        files = [number for number in map(int, os.listdir("/proc/self/fd")) if _inherited(number)]
        if not {0, 1, 2} <= set(files) or len(files) > _MOST_FILES:
            return UNLIKE
        here = os.open(".", os.O_PATH | os.O_DIRECTORY)
        umask = os.umask(0o077)
        os.umask(umask)
        ignored = [each for each in FORWARDED if _signal.getsignal(each) == _signal.SIG_IGN]
        request = marshal.dumps(
            (bearing(), dict(os.environb), sys.argv, sys.path, umask, ignored, files)
        )
        request = len(request).to_bytes(8, sys.byteorder) + request
        numbers = b"".join(number.to_bytes(4, sys.byteorder) for number in (here, *files))
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, numbers)
        server.sendall(request[server.sendmsg([request], [rights]) :])
        kind, answer = _told(server)
        if kind != ANSWER:
            return UNLIKE
        if answer > 0:
            server.sendall(go)
        return answer
    except (OSError, ValueError):  # whatever it is, nothing has been done
        return UNLIKE
    finally:
        if here is not None:
            os.close(here)


def _inherited(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:  # it was the listing's own
        return False


def _forward_to(process: int) -> None:
    """Let the command have what this process is told; a terminal tells the whole group."""

    def forward(number: int, _frame: object) -> None:
        try:
            if number == _signal.SIGTERM:
                os.kill(process, number)
            elif number == _signal.SIGTSTP:
                # the command has no terminal of its own: it would not stop at TSTP
                os.killpg(process, _signal.SIGSTOP)
                os.kill(os.getpid(), _signal.SIGSTOP)
            else:
                os.killpg(process, number)
        except ProcessLookupError:
            """It has just ended."""

    for number in FORWARDED:
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, forward)


def _end(server: _socket.socket) -> None:
    """Wait for the end of the command, and end likewise."""
    server.settimeout(None)
    kind, status = _told(server)
    server.settimeout(patience())
    while _told(server)[0]:
        """Until it is gone, and has let go of all it held."""
    if kind != ENDED:
        _say("the command was killed, and the warm server too")
        os._exit(1)
    if status < 0:
        if -status != _signal.SIGKILL:
            _signal.signal(-status, _signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status % 256)


def _told(server: _socket.socket) -> tuple[bytes, int]:
    try:
        said = server.recv(5)
    except OSError:
        said = b""
    return said[:1], int.from_bytes(said[1:], sys.byteorder, signed=True)


def _say(message: str) -> None:
    os.write(2, f"edgekit: {message}\n".encode())
