"""Which Debian packages a base has: resolved from a suite's signed indexes, kept in a lock.

The trust goes from the machine's keyring to `InRelease` (gpgv), from there by sha256 to `Packages`
and from there by sha256 to each `.deb`. Formats: Debian policy, chapters 5 and 7; the wiki's
DebianRepository/Format.
"""

import hashlib
import logging
import lzma
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cmp_to_key
from pathlib import Path
from typing import Any

import httpx

from edgekit.errors import Corrupt, ImageError, Unreachable
from edgekit.oci.descriptor import Platform
from edgekit.packager.mirror import Mirror, find_mirror, read_fields
from edgekit.packager.store import Download, Progress, Store, get, http_client

log = logging.getLogger(__name__)

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
ARCHITECTURES = {"linux/amd64": "amd64", "linux/arm64": "arm64"}

# What a Python program with TLS, SQLite and C++ extensions needs, and nothing to administrate it.
SEEDS = ("base-files", "ca-certificates", "libstdc++6", "netbase", "python3-minimal")
# Dependencies of the packages' scripts and of modules of the standard library left out below.
LEFT_OUT = re.compile(
    r"awk|debconf(-2\.0)?|dpkg|openssl|media-types|mime-support|readline-common"
    r"|libdb5\.3(t64)?|libnsl2|libtirpc3(t64)?|libreadline8(t64)?|libncursesw6|libtinfo6"
)
_PACKAGES_LIMIT = 128 * 1024 * 1024
_RELEASE_LIMIT = 4 * 1024 * 1024


@dataclass(frozen=True, order=True)
class Package:
    """One binary package: what it is, where in the archive, what its file must be.

    Args:
        archive: `main` or `security`.
        filename: the file's path in that archive.
    """

    name: str
    version: str
    architecture: str
    archive: str
    filename: str
    size: int
    sha256: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256) or self.size < 0:
            raise Corrupt(f"the package {self.name} has no proper sha256 or size")
        if (
            not re.fullmatch(r"pool/[A-Za-z0-9.+~_/-]+\.deb", self.filename)
            or ".." in self.filename
        ):
            raise Corrupt(f"the package {self.name} has the file name {self.filename!r}")

    def download(self, mirror: Mirror) -> Download:
        """Where to get it."""
        base = mirror.security if self.archive == "security" else mirror.main
        return Download(
            f"{base}/{self.filename}", self.sha256, self.size, self.filename.rpartition("/")[2]
        )


@dataclass(frozen=True)
class DebianLock:
    """The packages of a base for each platform, and whether their index's signature was checked."""

    suite: str
    signed: bool
    packages: Mapping[str, tuple[Package, ...]]

    @property
    def python(self) -> str:
        """The interpreter's version, as in `3.11`."""
        for package in next(iter(self.packages.values())):
            if found := re.fullmatch(r"python(3\.\d+)-minimal", package.name):
                return found[1]
        raise ImageError(f"the base debian:{self.suite} has no Python")

    @property
    def glibc(self) -> tuple[int, int]:
        """The C library's version, as in (2, 36)."""
        for package in next(iter(self.packages.values())):
            if package.name == "libc6" and (found := re.match(r"(\d+)\.(\d+)", package.version)):
                return int(found[1]), int(found[2])
        raise ImageError(f"the base debian:{self.suite} has no C library")


def lock_debian(
    suite: str,
    platforms: Iterable[Platform],
    store: Store,
    update: bool = False,
    progress: Progress | None = None,
) -> DebianLock:
    """The packages of `debian:SUITE`, from the lock where it has all platforms, else resolved.

    Args:
        suite: a release of Debian, as in `bookworm`.
        platforms: of `ARCHITECTURES`.
        store: holds the lock.
        update: resolve again, and so take newer packages.
        progress: told of the indexes fetched.

    Raises:
        ImageError: no mirror is known, or a platform is none of Debian's here.
        Unreachable, Corrupt: the mirror fails, or its files are not what they should be.
    """
    wanted = [str(platform) for platform in platforms]
    for platform in wanted:
        if platform not in ARCHITECTURES:
            raise ImageError(
                f"no base from Debian for {platform}: ONNX Runtime has wheels for x86-64 and"
                " aarch64 only",
                f"choose of {', '.join(ARCHITECTURES)}",
            )
    name = f"debian-{suite}"
    kept = _from_json(store.read_lock(name)) if not update else None
    missing = [platform for platform in wanted if not kept or platform not in kept.packages]
    if missing:
        # all platforms anew, so that they do not differ in their packages' versions
        every = sorted(set(wanted) | set(kept.packages if kept else ()))
        kept = _resolve(suite, every, find_mirror(), progress)
        store.write_lock(name, _to_json(kept))
    assert kept is not None
    return DebianLock(
        suite, kept.signed, {platform: kept.packages[platform] for platform in wanted}
    )


def _to_json(lock: DebianLock) -> dict[str, Any]:
    return {
        "suite": lock.suite,
        "signed": lock.signed,
        "packages": {
            platform: [asdict(package) for package in packages]
            for platform, packages in lock.packages.items()
        },
    }


def _from_json(value: dict[str, Any] | None) -> DebianLock | None:
    if value is None:
        return None
    try:
        packages = {
            platform: tuple(Package(**package) for package in listed)
            for platform, listed in value["packages"].items()
        }
        return DebianLock(value["suite"], bool(value["signed"]), packages)
    except (KeyError, TypeError, AttributeError) as error:
        raise ImageError(
            f"the lock of Debian packages does not read: {error!r}", "delete it"
        ) from error


def _resolve(
    suite: str, platforms: list[str], mirror: Mirror, progress: Progress | None
) -> DebianLock:
    sources = [("main", mirror.main, suite, "main")]
    sources.append(("main", mirror.main, f"{suite}-updates", "main"))
    if mirror.security:
        sources.append(("security", mirror.security, f"{suite}-security", "main"))
    signed = True
    candidates: dict[str, dict[str, list[dict[str, str]]]] = {name: {} for name in platforms}
    with http_client() as client:
        for archive, base, dist, component in sources:
            try:
                release, checked = _release(client, f"{base}/dists/{dist}")
            except Unreachable:
                if dist == suite:
                    raise
                log.info("%s has no %s", base, dist)
                continue
            signed = signed and checked
            for platform in platforms:
                path = f"{component}/binary-{ARCHITECTURES[platform]}/Packages.xz"
                text = _index(client, f"{base}/dists/{dist}", release, path)
                if progress:
                    progress(f"index {dist} {platform}", len(text), 0)
                _collect(text, archive, candidates[platform])
    packages = {name: _close(candidates[name], suite) for name in platforms}
    return DebianLock(suite, signed, packages)


def _release(client: httpx.Client, address: str) -> tuple[dict[str, str], bool]:
    """The fields of an `InRelease`, and whether its signature was checked."""
    data = get(client, f"{address}/InRelease", _RELEASE_LIMIT)
    text, checked = _verified(data)
    fields = read_fields(text)
    if fields.get("Origin") != "Debian":
        raise ImageError(
            f"what is at {httpx.URL(address).host} is no Debian archive but that of"
            f" {fields.get('Origin', 'nobody')}",
            "set EDGEKIT_DEBIAN_MIRROR to a Debian mirror",
        )
    return fields, checked


def _verified(data: bytes) -> tuple[str, bool]:
    """The signed part of an `InRelease`; checked where gpgv and Debian's keyring are here."""
    if shutil.which("gpgv") and KEYRING.exists():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "InRelease"
            path.write_bytes(data)
            command = ["gpgv", "--keyring", str(KEYRING), "--output", "-", str(path)]
            answer = subprocess.run(command, capture_output=True, timeout=60, check=False)
        if answer.returncode:
            raise Corrupt(
                "the signature of Debian's InRelease is not one of the machine's Debian keyring",
                "update debian-archive-keyring, or choose another mirror",
            )
        return answer.stdout.decode("utf-8", "replace"), True
    log.warning("the signature of Debian's index was not checked: install gpgv and the keyring")
    body = data.decode("utf-8", "replace").partition("\n\n")[2]
    return body.partition("-----BEGIN PGP SIGNATURE-----")[0], False


def _index(client: httpx.Client, address: str, release: Mapping[str, str], path: str) -> str:
    """A `Packages` index, checked against the release."""
    for line in release.get("SHA256", "").splitlines():
        parts = line.split()
        if len(parts) == 3 and parts[2] == path:
            sha256, size = parts[0], int(parts[1])
            break
    else:
        raise ImageError(f"{address.rpartition('/')[2]} has no {path}")
    # by hash, where an update of the mirror between two requests does no harm
    folder = path.rpartition("/")[0]
    data = get(client, f"{address}/{folder}/by-hash/SHA256/{sha256}", min(size, _PACKAGES_LIMIT))
    if hashlib.sha256(data).hexdigest() != sha256:
        raise Corrupt(f"{path} is not what the release file says", "try again later")
    decompressor = lzma.LZMADecompressor()
    text = decompressor.decompress(data, _PACKAGES_LIMIT)
    if not decompressor.eof:
        raise Corrupt(f"{path} is longer than {_PACKAGES_LIMIT} bytes")
    return text.decode("utf-8")


def _collect(text: str, archive: str, found: dict[str, list[dict[str, str]]]) -> None:
    """Add a `Packages` index to `found`: name -> paragraphs, parsed when they are wanted."""
    for paragraph in text.split("\n\n"):
        if paragraph.startswith("Package: "):
            name = paragraph[9 : paragraph.find("\n")]
            found.setdefault(name, []).append({"archive": archive, "text": paragraph})


def _close(found: Mapping[str, list[dict[str, str]]], suite: str) -> tuple[Package, ...]:
    """The seeds and all they depend on, but what is left out, each in its newest version."""
    chosen: dict[str, Package] = {}
    waiting = list(SEEDS)
    while waiting:
        name = waiting.pop()
        if name in chosen:
            continue
        if name not in found:
            raise ImageError(f"Debian {suite} has no package {name}", "choose another suite")
        versions = [(read_fields(each["text"]), each["archive"]) for each in found[name]]
        fields, archive = max(versions, key=lambda each: version_key(each[0]["Version"]))
        chosen[name] = Package(
            name,
            fields["Version"],
            fields["Architecture"],
            archive,
            fields["Filename"],
            int(fields["Size"]),
            fields["SHA256"].lower(),
        )
        if python := re.fullmatch(r"(python3\.\d+)-minimal", name):
            waiting.append(f"lib{python[1]}-stdlib")
        waiting += _dependencies(fields, found)
    return tuple(sorted(chosen.values()))


def _dependencies(fields: Mapping[str, str], found: Mapping[str, object]) -> list[str]:
    clauses = [*fields.get("Pre-Depends", "").split(","), *fields.get("Depends", "").split(",")]
    wanted = []
    for clause in clauses:
        names = [re.split(r"[\s(:]", part.strip())[0] for part in clause.split("|")]
        if not names[0] or any(LEFT_OUT.fullmatch(name) for name in names):
            continue
        wanted.append(next((name for name in names if name in found), names[0]))
    return wanted


def _order(character: str) -> int:
    """The rank of a character in a version: tilde, end, letters, the rest (policy 5.6.12)."""
    if character == "~":
        return -1
    if character.isalpha():
        return ord(character)
    return ord(character) + 256 if character else 0


def compare_versions(left: str, right: str) -> int:
    """Negative, zero or positive as `left` is older than, equal to or newer than `right`."""
    left_epoch, _, left = left.rpartition(":")
    right_epoch, _, right = right.rpartition(":")
    if difference := int(left_epoch or 0) - int(right_epoch or 0):
        return difference
    left_parts = left.rpartition("-") if "-" in left else (left, "", "0")
    right_parts = right.rpartition("-") if "-" in right else (right, "", "0")
    return _compare_part(left_parts[0], right_parts[0]) or _compare_part(
        left_parts[2], right_parts[2]
    )


def _compare_part(left: str, right: str) -> int:
    while left or right:
        left_text, left = _split(left, r"\D*")
        right_text, right = _split(right, r"\D*")
        for position in range(max(len(left_text), len(right_text))):
            difference = _order(left_text[position : position + 1]) - _order(
                right_text[position : position + 1]
            )
            if difference:
                return difference
        left_number, left = _split(left, r"\d*")
        right_number, right = _split(right, r"\d*")
        if difference := int(left_number or 0) - int(right_number or 0):
            return difference
    return 0


def _split(text: str, pattern: str) -> tuple[str, str]:
    found = re.match(pattern, text)
    assert found is not None
    return found[0], text[found.end() :]


version_key = cmp_to_key(compare_versions)
