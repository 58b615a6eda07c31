"""Unpacking an image into a folder, without root and without trusting its layers."""

import logging
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, cast

import zstandard

from edgekit.errors import Corrupt, OciError
from edgekit.oci.blobs import CHUNK, Blobs
from edgekit.oci.compressed import decompressed
from edgekit.oci.descriptor import Descriptor
from edgekit.oci.transfer import Image

log = logging.getLogger(__name__)

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
SIZE_LIMIT = 16 * 1024**3
MEMBER_LIMIT = 500_000
# extended headers hold a long name, or attributes
_HEADER_LIMIT = 1024 * 1024
_EXTENDED = frozenset(
    (
        *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
        *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    )
)


def unpack(image: Image, folder: Path, size_limit: int = SIZE_LIMIT) -> None:
    """Make `folder` the root file system of `image`.

    Layers are applied in order with their whiteouts. Every path is resolved inside the folder, as
    if it were the root: no `..` and no link of a layer leads outside. Absolute links become
    relative ones, so that the tree works where it is. Owners are not kept, nor are set-uid bits.

    Args:
        image: pulled before, so that its digests are checked.
        folder: must not exist; it appears when all is unpacked.
        size_limit: how many bytes all files together may have.

    Raises:
        Corrupt: a layer holds a device, a path that leads outside, or more than `size_limit`.
        OciError: `folder` exists, or the disk refuses.
    """
    if folder.exists():
        raise OciError(f"{folder} exists already", "name a folder that does not")
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.partial-", dir=folder.parent))
        tree = _Tree(temporary, size_limit)
        for layer in image.manifest.layers:
            with open_layer(image.blobs, layer) as archive:
                tree.apply(archive, layer.digest)
        temporary.chmod(0o755)
        temporary.rename(folder)
    except OSError as error:
        raise OciError(f"cannot unpack to {folder}: {error.strerror or error}") from error
    finally:
        if temporary and temporary.exists():
            shutil.rmtree(temporary)


@contextmanager
def open_layer(blobs: Blobs, layer: Descriptor) -> Iterator[tarfile.TarFile]:
    """A layer as a tar stream, whatever its compression.

    Raises:
        Corrupt: it does not decompress, or is no tar, or one that would take too much memory.
    """
    with blobs.open(layer) as file:
        try:
            with tarfile.open(
                fileobj=decompressed(file), mode="r|", encoding="utf-8", tarinfo=_Member
            ) as archive:
                yield archive
        except (zlib.error, zstandard.ZstdError, EOFError) as error:
            raise Corrupt(f"layer {layer.digest} does not decompress: {error}") from error
        except tarfile.TarError as error:
            raise Corrupt(f"layer {layer.digest} is no tar: {error}") from error
        except RecursionError as error:
            raise Corrupt(f"layer {layer.digest} has headers of headers without end") from error


class _Member(tarfile.TarInfo):
    """A member whose header is read with bounded memory, which tarfile alone does not promise."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENDED and self.size > _HEADER_LIMIT:
            raise Corrupt(f"a header of {self.size} bytes in a layer; none is so long")
        return cast(tarfile.TarInfo, super()._proc_member(archive))  # type: ignore[misc]

    def _refuse_sparse(self, *_what: object) -> NoReturn:
        """A sparse file's map is read whole into memory, and no builder of images writes one."""
        raise Corrupt(f"{self.name} is a sparse file; layers hold none")

    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


class _Tree:
    """The folder that layers are applied to."""

    def __init__(self, root: Path, size_limit: int) -> None:
        self.root = root
        self._left = size_limit
        self._members = 0

    def apply(self, archive: tarfile.TarFile, digest: str) -> None:
        """Apply one layer: what it hides, what it removes, what it brings."""
        brought: set[Path] = set()
        for member in archive:
            self._members += 1
            self._left -= max(member.size, 0)
            if self._left < 0 or self._members > MEMBER_LIMIT:
                raise Corrupt(f"layer {digest} unpacks to more than is allowed")
            parts = _parts(member.name)
            if not parts:
                continue
            parent = self._resolve(parts[:-1], make=True)
            if parts[-1] == OPAQUE:
                self._clear(parent, brought)
            elif parts[-1].startswith(WHITEOUT):
                _remove(parent / _plain(parts[-1].removeprefix(WHITEOUT)))
            else:
                self._place(archive, member, parent / parts[-1])
                brought.add(parent / parts[-1])

    def _place(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
        if member.isdir():
            if path.is_symlink() or not path.is_dir():
                _remove(path)
                path.mkdir()
            # the owner can always write, or later layers could not be applied without root
            path.chmod(member.mode & 0o755 | 0o700)
            return
        _remove(path)
        if member.issym():
            path.symlink_to(self._relative(member.linkname, path))
        elif member.islnk():
            target = _parts(member.linkname)
            source = self._resolve(target[:-1]) / target[-1] if target else self.root
            if source.is_symlink() or not source.is_file():
                raise Corrupt(
                    f"{member.name} links to {member.linkname}, which is no file before it"
                )
            os.link(source, path)
        elif member.isreg():
            source_file = archive.extractfile(member)
            assert source_file is not None
            with path.open("wb") as file:
                shutil.copyfileobj(source_file, file, CHUNK)
            path.chmod(member.mode & 0o777 | 0o400)
        else:
            raise Corrupt(f"{member.name} is a device or a pipe; images here hold none")

    def _relative(self, target: str, path: Path) -> str:
        if not target.startswith("/"):
            return target
        inside = self.root.joinpath(*_parts(target))
        return os.path.relpath(inside, path.parent)

    def _resolve(self, parts: list[str], make: bool = False) -> Path:
        """The directory at `parts`, following links as if `root` were `/`."""
        current: list[str] = []
        waiting = list(reversed(parts))
        for _step in range(1000):
            if not waiting:
                break
            part = waiting.pop()
            if part == "..":
                current = current[:-1]
                continue
            path = self.root.joinpath(*current, part)
            if path.is_symlink():
                target = str(path.readlink())
                if target.startswith("/"):
                    current = []
                waiting += [step for step in reversed(target.split("/")) if step not in ("", ".")]
                continue
            if make and not path.is_dir():
                _remove(path)
                path.mkdir(mode=0o755)
            current.append(part)
        if waiting:
            raise Corrupt(f"{'/'.join(parts)} goes round in a circle of links")
        return self.root.joinpath(*current)

    def _clear(self, folder: Path, brought: set[Path]) -> None:
        """An opaque directory shows nothing of the layers below."""
        for child in folder.iterdir():
            if not any(path == child or child in path.parents for path in brought):
                _remove(child)


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Corrupt(f"{name!r} leads out of its layer")
    return parts


def _plain(name: str) -> str:
    if name in ("", ".", ".."):
        raise Corrupt(f"a whiteout of {name!r}")
    return name


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
