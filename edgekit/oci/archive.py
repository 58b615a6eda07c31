"""A layout as one file: an OCI archive, as skopeo calls it."""

import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from edgekit.errors import Corrupt, OciError
from edgekit.oci.layout import Layout
from edgekit.wholefile import whole_file

_LIMIT = 16 * 1024**3


def write_archive(layout: Layout, path: Path) -> None:
    """Write a layout into a tar archive whose bytes depend on the layout alone.

    Raises:
        OciError: the file cannot be written.
    """
    try:
        with (
            whole_file(path) as whole,
            tarfile.open(fileobj=whole, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for file in sorted(layout.folder.rglob("*")):
                if not file.is_file() or file.name.startswith("."):
                    continue
                info = tarfile.TarInfo(file.relative_to(layout.folder).as_posix())
                info.size = file.stat().st_size
                with file.open("rb") as content:
                    archive.addfile(info, content)
    except OSError as error:
        raise OciError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def opened_archive(path: Path) -> Iterator[Layout]:
    """The layout in an archive, unpacked while the block runs; every blob is checked.

    Raises:
        OciError: the file does not read.
        Corrupt: it holds anything but a layout, or a blob that is not what its name says.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-archive-") as folder:
        layout = Layout(Path(folder))
        left = _LIMIT
        try:
            with tarfile.open(path, "r|") as archive:
                for member in archive:
                    left -= max(member.size, 0)
                    file = archive.extractfile(member) if member.isreg() else None
                    if file is None or left < 0:
                        raise Corrupt(f"{path} holds {member.name!r}, which has no place in it")
                    _take(layout, member.name, file)
        except (OSError, tarfile.TarError) as error:
            raise OciError(f"cannot read {path}: {error}") from error
        layout.roots()
        yield layout


def _take(layout: Layout, name: str, file: IO[bytes]) -> None:
    if name in ("oci-layout", "index.json"):
        (layout.folder / name).write_bytes(file.read(4 * 1024 * 1024))
        return
    digest = name.removeprefix("blobs/sha256/")
    with layout.blobs.writer(expected=f"sha256:{digest}") as writer:
        while piece := file.read(1024 * 1024):
            writer.write(piece)
