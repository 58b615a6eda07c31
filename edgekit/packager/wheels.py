"""The wheels of an image: resolved by pip for another platform, kept in a lock, unpacked."""

import hashlib
import logging
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import Corrupt, ImageError, Unreachable
from edgekit.oci.descriptor import Platform
from edgekit.oci.layer import Entry, ZipMember
from edgekit.packager.sdist import pure_wheels
from edgekit.packager.store import Progress, Store, write_file

log = logging.getLogger(__name__)

# counted up when the same wheels are to give another layer
FORMAT = 2
LIB = "opt/edgekit/lib"

# What edgekit_runtime imports; the same as the extra `runtime` of edgekit's own metadata.
REQUIREMENTS = (
    "azure-iot-device>=2.14",
    "httptools>=0.6",
    "numpy>=1.26",
    "onnxruntime>=1.20",
    "orjson>=3.10",
    "paho-mqtt>=1.6.1,<2",
    "prometheus-client>=0.20",
    "uvloop>=0.20",
)
# Of an image that serves FPGA packages: gRPC instead of ONNX Runtime.
FPGA_REQUIREMENTS = (
    *(each for each in REQUIREMENTS if not each.startswith("onnxruntime")),
    "grpcio>=1.66",
    "protobuf>=4.25",
)
# Declared by onnxruntime for its tools; inference imports none of them.
NOT_NEEDED = frozenset(
    {"coloredlogs", "flatbuffers", "humanfriendly", "mpmath", "protobuf", "sympy"}
)
MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
_OLDEST = {"x86_64": 5, "aarch64": 17}
_PIP_SECONDS = 1800


@dataclass(frozen=True, order=True)
class Wheel:
    """One wheel: a project's release for a platform, and what its file must be."""

    name: str
    version: str
    file: str
    sha256: str
    size: int

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9._+!-]+\.whl", self.file):
            raise Corrupt(f"{self.file!r} is no wheel's file name")

    def path(self, store: Store) -> Path:
        """Where it is in the cache, or would be."""
        return store.cache / "wheels" / "files" / f"{self.sha256[:16]}" / self.file


@dataclass(frozen=True)
class WheelLock:
    """The wheels for each platform, as resolved for one list of requirements."""

    python: str
    requirements: tuple[str, ...]
    platforms: Mapping[str, tuple[Wheel, ...]]


def lock_wheels(
    name: str,
    requirements: Sequence[str],
    platforms: Iterable[Platform],
    python: str,
    glibc: tuple[int, int],
    store: Store,
    update: bool = False,
    progress: Progress | None = None,
    under: WheelLock | None = None,
) -> WheelLock:
    """The wheels for `requirements`, from the lock where it has all platforms, else resolved.

    Args:
        name: of the lock.
        requirements: as pip takes them.
        platforms: of `MACHINES`.
        python: the version of the base's interpreter, as in `3.11`.
        glibc: the version of its C library.
        store: holds the lock and the wheels.
        update: resolve again, and so take newer releases.
        progress: told of what was fetched.
        under: wheels that are in the image already: their versions stay, and what they bring is
            not brought again.

    Raises:
        ImageError: pip finds no wheels for a platform; the message has its reason.
    """
    wanted = [str(platform) for platform in platforms]
    for platform in wanted:
        if platform not in MACHINES:
            raise ImageError(
                f"no wheels for {platform}: ONNX Runtime has them for x86-64 and aarch64 on glibc",
                f"choose of {', '.join(MACHINES)}",
            )
    kept = _from_json(store.read_lock(name)) if not update else None
    asked = tuple(sorted(requirements))
    if under:
        # a change below changes what fits above
        files = [each.file for platform in wanted for each in under.platforms[platform]]
        asked = (*asked, f"# above {hashlib.sha256(repr(files).encode()).hexdigest()}")
    if kept and (kept.python, kept.requirements) != (python, asked):
        kept = None
    if not kept or any(platform not in kept.platforms for platform in wanted):
        every = sorted(set(wanted) | set(kept.platforms if kept else ()))
        kept = _resolve(asked, every, python, glibc, store, progress, under)
        store.write_lock(name, _to_json(kept))
    return WheelLock(python, asked, {platform: kept.platforms[platform] for platform in wanted})


def _to_json(lock: WheelLock) -> dict[str, Any]:
    return {
        "python": lock.python,
        "requirements": list(lock.requirements),
        "platforms": {
            platform: [asdict(wheel) for wheel in wheels]
            for platform, wheels in lock.platforms.items()
        },
    }


def _from_json(value: dict[str, Any] | None) -> WheelLock | None:
    if value is None:
        return None
    try:
        platforms = {
            platform: tuple(Wheel(**wheel) for wheel in wheels)
            for platform, wheels in value["platforms"].items()
        }
        return WheelLock(value["python"], tuple(value["requirements"]), platforms)
    except (KeyError, TypeError, AttributeError) as error:
        raise ImageError(f"the lock of wheels does not read: {error!r}", "delete it") from error


def _resolve(
    requirements: tuple[str, ...],
    platforms: Sequence[str],
    python: str,
    glibc: tuple[int, int],
    store: Store,
    progress: Progress | None,
    under: WheelLock | None,
) -> WheelLock:
    links = pure_wheels(store)
    asked = [each for each in requirements if not each.startswith("#")]
    unasked = NOT_NEEDED - {re.split(r"[<>=!~\[; ]", each)[0] for each in asked}

    def one(platform: str) -> tuple[Wheel, ...]:
        below = under.platforms.get(platform, ()) if under else ()
        names = {wheel.name for wheel in below}
        with tempfile.TemporaryDirectory(prefix="edgekit-wheels-") as folder:
            fixed = Path(folder) / "constraints.txt"
            fixed.write_text("".join(f"{each.name}=={each.version}\n" for each in below))
            options = [*target_options(platform, python, glibc), "--find-links", str(links)]
            options += ["--constraint", str(fixed), *asked]
            _pip(options, Path(folder), f"wheels for {platform}")
            found = [_take(path, store) for path in sorted(Path(folder).glob("*.whl"))]
        dropped = names if under else unasked
        kept = tuple(sorted(wheel for wheel in found if wheel.name not in dropped))
        if progress:
            progress(f"wheels for {platform}", sum(wheel.size for wheel in kept), 0)
        return kept

    with ThreadPoolExecutor(2) as pool:
        return WheelLock(
            python, requirements, dict(zip(platforms, pool.map(one, platforms), strict=True))
        )


def target_options(platform: str, python: str, glibc: tuple[int, int]) -> list[str]:
    """What makes pip resolve for a target instead of this machine.

    pip takes each platform tag literally, so all that the target's C library runs are listed
    (PEP 600), newest first.
    """
    machine = MACHINES[platform]
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(glibc[1], _OLDEST[machine] - 1, -1)]
    tags.append(f"manylinux2014_{machine}")
    if machine == "x86_64":
        tags += ["manylinux2010_x86_64", "manylinux1_x86_64"]
    options = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    return options + [part for tag in tags for part in ("--platform", tag)]


def _pip(options: Sequence[str], folder: Path, what: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input"]
    try:
        answer = subprocess.run(
            [*command, "--disable-pip-version-check", "--dest", str(folder), *options],
            capture_output=True,
            text=True,
            timeout=_PIP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unreachable(f"pip took more than {_PIP_SECONDS} s for {what}") from error
    if answer.returncode:
        errors = [line for line in answer.stderr.splitlines() if line.startswith("ERROR: ")]
        reason = errors[0].removeprefix("ERROR: ") if errors else answer.stderr.strip()[-200:]
        if "No module named pip" in answer.stderr:
            raise ImageError(
                f"{sys.executable} has no pip, which finds the wheels", "python -m ensurepip"
            )
        raise ImageError(
            f"pip finds no {what}: {reason}",
            "only what has a wheel for the target can go into an image",
        )


def _take(path: Path, store: Store) -> Wheel:
    data = path.read_bytes()
    name, version = path.name.split("-")[:2]
    wheel = Wheel(
        re.sub(r"[-_.]+", "-", name).lower(),
        version,
        path.name,
        hashlib.sha256(data).hexdigest(),
        len(data),
    )
    if not wheel.path(store).exists():
        write_file(wheel.path(store), data)
    return wheel


def read_requirements(path: Path) -> tuple[str, ...]:
    """The requirements of a user's file, each a name with versions.

    Raises:
        ImageError: it does not read, or asks for more than released wheels: an option, a path, an
            address, whose code pip would have to run.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"cannot read {path}: {error}") from error
    found = []
    for number, line in enumerate(lines, 1):
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        if not text:
            continue
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[\w, -]+\])?\s*([<>=!~;].*)?", text):
            raise ImageError(
                f"{path}:{number}: {text!r} is no name with versions",
                "only released wheels go into an image: write NAME, or NAME==VERSION",
            )
        found.append(text)
    return tuple(found)


@dataclass(frozen=True)
class WheelLayer:
    """The recipe of a layer of wheels for one platform.

    Args:
        platform: that they are for.
        python: the base's version.
        glibc: the version of its C library.
        wheels: their files.
        name: of the layer.
        link: where `/usr/bin/python3` is to lead, for a base that has it elsewhere.
    """

    platform: str
    python: str
    glibc: tuple[int, int]
    wheels: tuple[Wheel, ...]
    name: str = "wheels"
    link: str = ""

    def inputs(self) -> list[object]:
        """What the layer depends on."""
        files = [[wheel.file, wheel.sha256] for wheel in self.wheels]
        return [FORMAT, files, self.link] if self.link else [FORMAT, files]

    def prepare(self, store: Store, progress: Progress | None) -> None:
        """Fetch the wheels that the cache lacks, by their hashes."""
        missing = [wheel for wheel in self.wheels if not wheel.path(store).exists()]
        if not missing:
            return
        links = pure_wheels(store)
        with tempfile.TemporaryDirectory(prefix="edgekit-wheels-") as folder:
            lines = [f"{each.name}=={each.version} --hash=sha256:{each.sha256}" for each in missing]
            listing = Path(folder) / "requirements.txt"
            listing.write_text("\n".join(lines) + "\n")
            options = target_options(self.platform, self.python, self.glibc)
            options += ["--no-deps", "--require-hashes", "--find-links", str(links)]
            _pip([*options, "-r", str(listing)], Path(folder), f"wheels for {self.platform}")
            for path in sorted(Path(folder).glob("*.whl")):
                wheel = _take(path, store)
                if progress:
                    progress(f"fetch {wheel.file}", wheel.size, sum(each.size for each in missing))
        for wheel in missing:
            if not wheel.path(store).exists():
                raise Corrupt(f"pip fetched another file than the locked {wheel.file}")

    def entries(self, store: Store) -> list[Entry]:
        """The layer's files.

        Raises:
            Corrupt: a wheel does not read, or has a path that leads outside.
        """
        found: dict[str, Entry] = {}
        for wheel in self.wheels:
            for entry in wheel_entries(wheel.path(store)):
                found.setdefault(entry.path, entry)
        if self.link:
            found["usr/bin/python3"] = Entry("usr/bin/python3", "symlink", target=self.link)
        return list(found.values())


# Tests, headers, stubs and tools: a third of numpy's and onnxruntime's size, not used by inference.
# numpy.f2py stays: `from numpy import *`, which scipy does, asks for it.
_TRIMMED = re.compile(
    r"(.*/)?(tests|__pycache__)/.*"
    r"|.*\.(pyc|pyi|pxd|pyx|h|hpp|c|cpp|a|lib)"
    r"|onnxruntime/(transformers|quantization|tools|datasets|backend)/.*"
    r"|[^/]+\.dist-info/(RECORD|WHEEL|INSTALLER|REQUESTED|entry_points\.txt|top_level\.txt)"
)


def wheel_entries(path: Path) -> list[Entry]:
    """The files of a wheel as an installer would lay them out (binary distribution format 1.0).

    `purelib` and `platlib` become one tree; scripts, headers and data are left out, as nothing in
    the image calls them. What is not needed at run time is trimmed.
    """
    entries = []
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                name = info.filename
                if info.is_dir():
                    continue
                if name.startswith("/") or ".." in name.split("/") or "\\" in name:
                    raise Corrupt(f"{path.name} holds {name!r}, a path that leads outside")
                if moved := re.fullmatch(r"[^/]+\.data/([^/]+)/(.*)", name):
                    if moved[1] not in ("purelib", "platlib"):
                        continue
                    name = moved[2]
                if not _TRIMMED.fullmatch(name):
                    mode = 0o755 if info.external_attr >> 16 & 0o111 else 0o644
                    entries.append(
                        Entry(f"{LIB}/{name}", content=ZipMember(path, info.filename), mode=mode)
                    )
    except (zipfile.BadZipFile, OSError) as error:
        raise Corrupt(f"the wheel {path.name} does not read: {error}", "delete it") from error
    return entries
