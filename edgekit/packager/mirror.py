"""Where this machine gets Debian packages from: its own apt sources, or one variable.

edgekit names no mirror of its own: whoever runs it has chosen one, or says so.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import ImageError

MIRROR_VARIABLE = "EDGEKIT_DEBIAN_MIRROR"
SECURITY_VARIABLE = "EDGEKIT_DEBIAN_SECURITY_MIRROR"

# Debian's releases as sources name them; third parties use these names too, with other components
_RELEASES = frozenset(
    (
        *("bullseye", "bookworm", "trixie", "forky", "duke", "sid"),
        *("oldoldstable", "oldstable", "stable", "testing", "unstable"),
    )
)
_OPTION = re.compile(r"^deb\s+(?:\[[^\]]*\]\s*)?(\S+)\s+(\S+)\s*(.*)$")


@dataclass(frozen=True)
class Mirror:
    """Debian archives: the main one, and the one of security updates where it is known.

    Args:
        main: base address, to which `/dists/...` is appended.
        security: the same for security updates; may be empty.
    """

    main: str
    security: str = ""


def find_mirror(root: Path = Path("/")) -> Mirror:
    """The mirror of the environment, or that of the machine's apt sources.

    Args:
        root: of the file system whose `etc/apt` is read.

    Raises:
        ImageError: neither names one.
    """
    security = os.environ.get(SECURITY_VARIABLE, "")
    if main := os.environ.get(MIRROR_VARIABLE):
        return Mirror(main.rstrip("/"), security.rstrip("/"))
    main = ""
    for address, suite, components in _sources(root / "etc" / "apt"):
        release, _, pocket = suite.partition("-")
        release, slash, _ = release.partition("/")
        if release not in _RELEASES or "main" not in components:
            continue
        if pocket == "security" or slash:
            security = security or address
        elif not pocket:
            main = main or address
    if main:
        return Mirror(main, security)
    raise ImageError(
        "this machine's apt sources name no Debian mirror to build the base from",
        f"set {MIRROR_VARIABLE} to one, or give --base REGISTRY/NAME:TAG",
    )


def _sources(folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Address, suite and components of every enabled source, in apt's order."""
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    for path in files:
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".list":
            yield from _one_line(text)
        elif path.suffix == ".sources":
            yield from _deb822(text)


def _one_line(text: str) -> Iterator[tuple[str, str, list[str]]]:
    for line in text.splitlines():
        found = _OPTION.match(line.partition("#")[0].strip())
        if found and _usable(found[1]):
            yield found[1].rstrip("/"), found[2], found[3].split()


def _deb822(text: str) -> Iterator[tuple[str, str, list[str]]]:
    for stanza in re.split(r"\n\s*\n", text):
        fields = {name.lower(): value for name, value in read_fields(stanza).items()}
        if "deb" not in fields.get("types", "").split():
            continue
        if fields.get("enabled", "yes").strip().lower() in ("no", "false", "0"):
            continue
        for address in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                if _usable(address):
                    yield address.rstrip("/"), suite, fields.get("components", "").split()


def _usable(address: str) -> bool:
    return address.startswith(("http://", "https://"))


def read_fields(stanza: str) -> dict[str, str]:
    """The fields of one paragraph in Debian's control format (deb822(5)), comments left out."""
    fields: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if line[0] in " \t":
            if name:
                fields[name] += "\n" + line.strip()
        else:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields
