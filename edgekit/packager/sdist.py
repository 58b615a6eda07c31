"""A wheel from a pure Python source distribution, by moving files: nothing of it is run.

One package the Azure SDK needs, paho-mqtt 1.6.1, was never published as a wheel. Building one in
the ordinary way would run its `setup.py` on the operator's machine. It consists of one tree of
Python files, so a wheel of it is those files and its metadata. Each such package is named here with
the digest of its source; no other source distribution is ever taken.
"""

import base64
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import httpx

from edgekit.errors import Corrupt, ImageError
from edgekit.packager.store import Download, Store, fetch, write_file

_LIMIT = 4 * 1024 * 1024


@dataclass(frozen=True)
class PureSdist:
    """A source distribution that may be made into a wheel.

    Args:
        name: of the project.
        version: of the release.
        sha256: of the archive.
        tree: the folder in it that holds the import packages.
    """

    name: str
    version: str
    sha256: str
    tree: str

    @property
    def wheel_name(self) -> str:
        """The file name of the wheel made from it."""
        return f"{self.name.replace('-', '_')}-{self.version}-py3-none-any.whl"


PURE_SDISTS = (
    PureSdist(
        "paho-mqtt",
        "1.6.1",
        "2a8291c81623aec00372b5a85558a372c747cbca8e9934dfe218638b8eefc26f",
        "src",
    ),
)


def pure_wheels(store: Store) -> Path:
    """A folder with the wheels of `PURE_SDISTS`, made where they are missing; for `--find-links`.

    Raises:
        ImageError: pip's indexes do not have the source.
        Unreachable, Corrupt: it cannot be fetched, or is another file than the one named here.
    """
    folder = store.cache / "wheels" / "pure"
    for sdist in PURE_SDISTS:
        path = folder / sdist.wheel_name
        if not path.exists():
            write_file(path, make_wheel(_fetch(sdist, store), sdist))
    return folder


def _fetch(sdist: PureSdist, store: Store) -> bytes:
    name = f"{sdist.name}-{sdist.version}.tar.gz"
    download = Download("", sdist.sha256, _LIMIT, name)
    if not download.path(store).exists():
        address = _find(sdist)
        if address.startswith("file://"):
            data = Path(httpx.URL(address).path).read_bytes()
            if hashlib.sha256(data).hexdigest() != sdist.sha256:
                raise Corrupt(f"{address} is not {sdist.name} {sdist.version} as published")
            write_file(download.path(store), data)
        else:
            fetch([Download(address, sdist.sha256, _LIMIT, name)], store)
    return download.path(store).read_bytes()


def _find(sdist: PureSdist) -> str:
    """Where pip's own indexes have the source: it says so of the links that it passes over.

    pip offers no way to fetch a source distribution without running its build, but told to take
    wheels only, it lists every source it skips with its address. Whether the digest stands behind
    the address depends on the form the index answers in (HTML or JSON), so the address alone is
    read here, and whoever fetches it checks the digest.
    """
    with tempfile.TemporaryDirectory(prefix="edgekit-sdist-") as folder:
        answer = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "-vv", "--no-deps", "--no-input"),
                *("--only-binary=:all:", "--no-cache-dir", "--dest", folder),
                f"{sdist.name}=={sdist.version}",
            ],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    found = skipped_source(sdist, answer.stdout)
    if found is None:
        raise ImageError(
            f"pip's indexes do not have {sdist.name} {sdist.version}, which the Azure SDK needs",
            "look at the output of: pip download --no-deps --only-binary=:all: -vv"
            f" {sdist.name}=={sdist.version}",
        )
    return found


def skipped_source(sdist: PureSdist, output: str) -> str | None:
    """The address of a source that pip says it skipped, without a digest; None where it says none.

    Args:
        sdist: the source sought.
        output: what `pip download -vv --only-binary=:all:` printed.
    """
    archive = re.escape(f"/{sdist.name}-{sdist.version}.tar.gz")
    found = re.search(rf"Skipping link: .*?(\S+{archive})(?=[#\s]|$)", output, re.MULTILINE)
    return found[1] if found else None


def make_wheel(data: bytes, sdist: PureSdist) -> bytes:
    """The wheel with the Python files of a source distribution; the same bytes each time.

    Raises:
        Corrupt: the archive does not read, or holds more than Python in its tree.
    """
    top = f"{sdist.name}-{sdist.version}/"
    files: dict[str, bytes] = {}
    metadata = b""
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                if not member.isreg() or not member.name.startswith(top):
                    continue
                inner = member.name.removeprefix(top)
                file = archive.extractfile(member)
                assert file is not None
                if inner == "PKG-INFO":
                    metadata = file.read()
                elif inner.startswith(f"{sdist.tree}/") and ".egg-info/" not in inner:
                    files[inner.removeprefix(f"{sdist.tree}/")] = file.read()
                elif re.fullmatch(r"(LICENSE|COPYING|NOTICE|epl|edl)[^/]*", inner):
                    files[f"{_info(sdist)}/licenses/{inner}"] = file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise Corrupt(f"the source of {sdist.name} does not read: {error}") from error
    odd = [
        name for name in files if ".." in name or not (name.endswith(".py") or "licenses" in name)
    ]
    if odd or not metadata:
        raise Corrupt(f"the source of {sdist.name} is not plain Python: {', '.join(odd[:3])}")
    files[f"{_info(sdist)}/METADATA"] = metadata
    files[f"{_info(sdist)}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: edgekit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = "".join(_record_line(name, files[name]) for name in sorted(files))
    files[f"{_info(sdist)}/RECORD"] = f"{record}{_info(sdist)}/RECORD,,\n".encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as wheel:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            wheel.writestr(info, files[name])
    return out.getvalue()


def _info(sdist: PureSdist) -> str:
    return f"{sdist.name.replace('-', '_')}-{sdist.version}.dist-info"


def _record_line(name: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"
