"""The package: a deterministic archive of a pipeline's stages, and a reader that trusts nothing.

A package is an uncompressed zip with fixed names, order, times and modes, so equal models give
equal bytes. Reading checks sizes before reading, digests before use, and at last that the archive
is byte for byte what writing its content gives: whatever was altered, the reader says so.
"""

import hashlib
import io
import json
import os
import stat
import struct
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit_fpga import isa
from edgekit_fpga.boards import Board, board_from_dict
from edgekit_fpga.checking import check_program
from edgekit_fpga.cpu import CpuOp
from edgekit_fpga.errors import FpgaError, PackageError
from edgekit_fpga.manifest import check_board, check_kinds, check_manifest
from edgekit_fpga.program import Program, program_of

FORMAT = 1
FILES = ("program.bin", "weights.bin", "requant.bin", "tables.bin")
MANIFEST = "manifest.json"
MAX_PACKAGE_BYTES = 256 << 20
MAX_MANIFEST_BYTES = 8 << 20
_TIME = (1980, 1, 1, 0, 0, 0)
HINT = "compile the model again: edgekit fpga compile MODEL -o PACKAGE"


@dataclass(frozen=True, eq=False)
class Package:
    """A compiled model.

    Attributes:
        manifest: what it is, as JSON values; docs/npu-package.md describes them.
        board: the board it was compiled for.
        program: the NPU stage.
        before: CPU operations that come before it.
        after: CPU operations that come after it.
    """

    manifest: Mapping[str, Any]
    board: Board
    program: Program
    before: tuple[CpuOp, ...]
    after: tuple[CpuOp, ...]

    @property
    def digest(self) -> str:
        """sha256 of the archive."""
        return "sha256:" + hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """The archive."""
        files = self.program.files()
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            manifest = json.dumps(self.manifest, indent=1, sort_keys=True).encode() + b"\n"
            for name, data in [(MANIFEST, manifest), *((name, files[name]) for name in FILES)]:
                entry = zipfile.ZipInfo(name, _TIME)
                entry.external_attr = 0o644 << 16
                entry.create_system = 3
                archive.writestr(entry, data)
        return stream.getvalue()

    def save(self, path: str | Path) -> None:
        """Write the archive: a temporary file beside it, flushed, then renamed.

        Raises:
            PackageError: the file cannot be written.
        """
        target = Path(path)
        try:
            descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(self.to_bytes())
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).chmod(0o644)
                Path(temporary).replace(target)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise PackageError(f"cannot write {target}: {error.strerror}") from error


def digests(program: Program) -> dict[str, str]:
    """sha256 of every file of the program."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in program.files().items()}


def read_package(path: str | Path) -> Package:
    """Read a package from a file.

    Raises:
        PackageError: not there, no file, truncated, altered, oversized, or of another version.
    """
    source = Path(path)
    try:
        described = source.stat()
        if not stat.S_ISREG(described.st_mode):
            raise PackageError(f"{source} is no file", HINT)
        if described.st_size > MAX_PACKAGE_BYTES:
            raise PackageError(f"{source} is larger than {MAX_PACKAGE_BYTES >> 20} MB", HINT)
        data = source.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise PackageError(f"cannot read {source}: {reason}") from error
    try:
        return package_from_bytes(data)
    except FpgaError as error:
        raise PackageError(f"{source}: {error}", error.hint or HINT) from error


def package_from_bytes(data: bytes) -> Package:
    """Read a package from the bytes of its archive.

    Raises:
        PackageError: as `read_package`.
        BoardError: the board it describes is none.
        IsaError: a program that leaves its memories or does not end.
    """
    files = _unzip(data)
    try:
        manifest = json.loads(files[MANIFEST])
    except (ValueError, RecursionError) as error:
        raise PackageError(f"its manifest is no JSON: {error}", HINT) from error
    package = _of_manifest(manifest, files)
    if package.to_bytes() != data:
        raise PackageError("the archive was altered", HINT)
    return package


def _unzip(data: bytes) -> dict[str, bytes]:
    files = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if [entry.filename for entry in entries] != [MANIFEST, *FILES]:
                raise PackageError("it is no NPU package", HINT)
            for entry in entries:
                limit = MAX_MANIFEST_BYTES if entry.filename == MANIFEST else len(data)
                if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > limit:
                    raise PackageError(f"{entry.filename} is larger than it may be", HINT)
                files[entry.filename] = archive.read(entry)
    except _NO_ARCHIVE as error:
        raise PackageError("the archive is truncated or damaged", HINT) from error
    return files


# all that zipfile raises on bytes that are no archive
_NO_ARCHIVE = (
    zipfile.BadZipFile,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)


def _of_manifest(manifest: Any, files: Mapping[str, bytes]) -> Package:
    if isinstance(manifest, dict):
        _check_versions(manifest)
    check_kinds(manifest)
    for name in FILES:
        if hashlib.sha256(files[name]).hexdigest() != manifest["files"].get(name):
            raise PackageError(f"{name} is not what the manifest says", HINT)
    board = board_from_dict(manifest["board"])
    check_board(board)
    npu = manifest["npu"]
    lanes = board.array.output_lanes, board.array.reduction_lanes
    program = program_of(files, lanes, npu["resident"], npu["placements"], npu["traces"])
    before, after = (
        tuple(
            CpuOp(op["operator"], tuple(op["inputs"]), op["output"], op["attributes"])
            for op in manifest[key]
        )
        for key in ("before", "after")
    )
    check_program(program, board)
    check_manifest(manifest, board, program, before, after)
    return Package(manifest, board, program, before, after)


def _check_versions(manifest: Mapping[str, Any]) -> None:
    made = manifest.get("format"), manifest.get("isa_version")
    if made != (FORMAT, isa.ISA_VERSION):
        raise PackageError(
            f"made for format {made[0]}, instruction set {made[1]}; "
            f"this is {FORMAT} and {isa.ISA_VERSION}",
            HINT,
        )
