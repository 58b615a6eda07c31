"""Unpacking `.deb` files (deb(5)) into the entries of a layer, running nothing of them."""

import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import zstandard

from edgekit.errors import Corrupt
from edgekit.oci.layer import Entry

# Debian merged these into /usr; packages of older suites still carry the old paths
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_UNPACKED_LIMIT = 512 * 1024 * 1024


def read_deb(path: Path) -> tuple[str, list[Entry]]:
    """The control paragraph and the files of a package.

    Absolute links become relative ones, hard links copies; owners become root and special
    permission bits go. A file is where a system with merged `/usr` has it.

    Raises:
        Corrupt: the file is no package, or one with a device or a path outside.
    """
    members = dict(_ar_members(path))
    control = data = b""
    for name, content in members.items():
        if name.startswith("control.tar"):
            control = _decompress(name, content, path)
        elif name.startswith("data.tar"):
            data = _decompress(name, content, path)
    try:
        paragraph = _control(control)
        entries = list(_entries(data, path.name))
    except (tarfile.TarError, KeyError, UnicodeDecodeError) as error:
        raise Corrupt(f"{path.name} is no Debian package: {error}") from error
    return paragraph, entries


def _ar_members(path: Path) -> Iterator[tuple[str, bytes]]:
    """The members of an ar archive in its common form: a 60 byte header before each."""
    data = path.read_bytes()
    if not data.startswith(b"!<arch>\n"):
        raise Corrupt(f"{path.name} is no Debian package")
    position = 8
    while position + 60 <= len(data):
        header = data[position : position + 60]
        if header[58:60] != b"`\n" or not header[48:58].strip().isdigit():
            raise Corrupt(f"{path.name} is a damaged Debian package")
        size = int(header[48:58])
        position += 60
        yield (
            header[:16].decode("ascii", "replace").strip().rstrip("/"),
            data[position : position + size],
        )
        position += size + size % 2


def _decompress(name: str, content: bytes, path: Path) -> bytes:
    suffix = name.rpartition(".")[2]
    try:
        if suffix == "xz":
            decompressor = lzma.LZMADecompressor()
            data, whole = decompressor.decompress(content, _UNPACKED_LIMIT), decompressor.eof
        elif suffix == "zst":
            reader = zstandard.ZstdDecompressor().stream_reader(content)
            data = reader.read(_UNPACKED_LIMIT)
            whole = not reader.read(1)
        elif suffix == "gz":
            inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
            data, whole = inflate.decompress(content, _UNPACKED_LIMIT), inflate.eof
        elif suffix == "tar":
            data, whole = content, True
        else:
            raise Corrupt(f"{path.name} is compressed with {suffix!r}, which is not known here")
    except (lzma.LZMAError, zstandard.ZstdError, zlib.error) as error:
        raise Corrupt(f"{path.name} does not decompress: {error}") from error
    if not whole:
        raise Corrupt(f"{path.name} unpacks to more than {_UNPACKED_LIMIT} bytes")
    return data


def _control(data: bytes) -> str:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            if member.name.removeprefix("./") == "control" and member.isreg():
                file = archive.extractfile(member)
                assert file is not None
                return file.read().decode("utf-8")
    raise KeyError("it has no control file")


def _entries(data: bytes, package: str) -> Iterator[Entry]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            path = merged_path(member.name, package)
            if not path or path in (f"usr/{name}" for name in MERGED):
                continue
            # no set-uid, no group-writable; a directory's sticky bit stays (/tmp)
            mode = member.mode & (0o1777 if member.isdir() else 0o755)
            if member.isdir():
                yield Entry(path, "directory", mode=mode)
            elif member.issym():
                yield Entry(
                    path, "symlink", target=relative_link(member.name, member.linkname, package)
                )
            elif member.isreg() or member.islnk():
                file = archive.extractfile(member)
                if file is None:
                    raise Corrupt(f"{package}: {member.name} is a link to nothing")
                yield Entry(path, content=file.read(), mode=mode)
            else:
                raise Corrupt(f"{package} holds {member.name}, a device or a pipe")


def merged_path(name: str, package: str) -> str:
    """Where a package's file is in a system with merged `/usr`; empty for the root itself.

    Raises:
        Corrupt: the path leads outside.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or name.startswith("/"):
        raise Corrupt(f"{package} holds {name!r}, a path that leads outside")
    if parts and parts[0] in MERGED:
        parts.insert(0, "usr")
    return "/".join(parts)


def relative_link(name: str, target: str, package: str) -> str:
    """The relative form of a package's link, between the merged places of the link and its target.

    Args:
        name: the link's path as the package has it, before the merge.
        target: absolute or relative.
        package: for the message.

    Raises:
        Corrupt: the target leads outside.
    """
    own = [part for part in name.split("/") if part not in ("", ".")]
    steps = [] if target.startswith("/") else own[:-1]
    for part in target.split("/"):
        if part == "..":
            if not steps:
                raise Corrupt(f"{package}: the link {name} leads outside")
            steps.pop()
        elif part not in ("", "."):
            steps.append(part)
    if not steps:
        raise Corrupt(f"{package}: the link {name} leads nowhere")
    here = merged_path(name, package).split("/")[:-1]
    if steps[0] in MERGED:
        steps.insert(0, "usr")
    common = 0
    while common < min(len(here), len(steps) - 1) and here[common] == steps[common]:
        common += 1
    return "/".join([".."] * (len(here) - common) + steps[common:])


_TRIMMED = re.compile(
    r"usr/share/(man|info|locale|lintian|bash-completion|base-files|bug|doc-base|menu|applications"
    r"|pixmaps|icons|binfmts|python3/runtime\.d|python3/debian_defaults)(/.*)?"
    r"|usr/share/doc/(?!.*/copyright$).*"
    r"|usr/(lib/[^/]+/gconv|lib/[^/]+/audit|share/ca-certificates)(/.*)?"
    r"|etc/(apt|dpkg|ca-certificates|update-motd\.d|ld\.so\.conf\.d|init\.d|profile\.d|skel)(/.*)?"
    r"|usr/(s?bin)/(?!python3(\.\d+)?$).*"
    r"|usr/lib/python3(\.\d+)?/(test|idlelib|tkinter|turtledemo|ensurepip|lib2to3|distutils"
    r"|pydoc_data|__pycache__|config-[^/]*)(/.*)?"
    # their libraries are not in the base
    r"|usr/lib/python3\.\d+/lib-dynload/(_dbm|readline|_curses|_curses_panel|nis|_tkinter"
    r"|_test[^/]*|_xxtestfuzz|xxlimited[^/]*|_ctypes_test)\.cpython-[^/]*"
    r"|(boot|home|media|mnt|opt|srv|usr/(games|include|local|src)|var/(backups|local|mail|opt|spool))"
    r"(/.*)?"
    r"|.*\.pyc"
)


def is_trimmed(path: str) -> bool:
    """Whether a base leaves the file out: documentation, tools, parts of Python without libraries.

    The copyright files stay, as the packages' licences ask for.
    """
    return _TRIMMED.fullmatch(path) is not None
