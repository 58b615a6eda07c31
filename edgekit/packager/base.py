"""The base layer: the files of Debian packages, and the few that their scripts would write."""

from collections.abc import Iterable
from dataclasses import dataclass

from edgekit.errors import ImageError
from edgekit.oci.layer import Entry
from edgekit.packager.deb import MERGED, is_trimmed, read_deb
from edgekit.packager.debian import Package
from edgekit.packager.mirror import Mirror, find_mirror
from edgekit.packager.store import Progress, Store, fetch

# counted up when the same packages are to give another layer
FORMAT = 1
USER = 1000

_PASSWD = f"""root:x:0:0:root:/root:/usr/sbin/nologin
edgekit:x:{USER}:{USER}:edgekit:/var/lib/edgekit:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
_GROUP = f"""root:x:0:
edgekit:x:{USER}:
nogroup:x:65534:
"""
_NSSWITCH = """passwd: files
group: files
hosts: files dns
services: files
protocols: files
"""


@dataclass(frozen=True)
class DebianBase:
    """The recipe of a base layer: the packages of one architecture."""

    packages: tuple[Package, ...]
    name: str = "base"

    def inputs(self) -> list[object]:
        """What the layer depends on."""
        return [FORMAT, [package.sha256 for package in self.packages]]

    def prepare(self, store: Store, progress: Progress | None) -> None:
        """Fetch the packages that the cache lacks."""
        if all(each.download(Mirror("")).path(store).exists() for each in self.packages):
            return
        mirror = find_mirror()
        if any(each.archive == "security" for each in self.packages) and not mirror.security:
            raise ImageError(
                "the lock names security updates, and this machine knows no mirror of them",
                "set EDGEKIT_DEBIAN_SECURITY_MIRROR, or resolve again with --update",
            )
        fetch([package.download(mirror) for package in self.packages], store, progress)

    def entries(self, store: Store) -> list[Entry]:
        """The layer's files.

        Raises:
            Corrupt: a package is none, or hostile.
        """
        found: dict[str, Entry] = {}
        certificates: dict[str, bytes] = {}
        for package in self.packages:
            control, entries = read_deb(package.download(Mirror("")).path(store))
            for entry in entries:
                if entry.path.startswith("usr/share/ca-certificates/") and entry.kind == "file":
                    assert isinstance(entry.content, bytes)
                    certificates[entry.path] = entry.content
                if not is_trimmed(entry.path):
                    found.setdefault(entry.path, entry)
            # as in distroless images, where scanners look for packages without a dpkg database
            status = f"var/lib/dpkg/status.d/{package.name}"
            found[status] = Entry(status, content=control.rstrip("\n").encode() + b"\n")
        for entry in _written(certificates):
            found[entry.path] = entry
        return _without_empty(found.values())


def _written(certificates: dict[str, bytes]) -> Iterable[Entry]:
    """What the packages' scripts and an administrator would have made."""
    for name in MERGED[:3]:
        yield Entry(name, "symlink", target=f"usr/{name}")
        yield Entry(f"usr/{name}", "directory", mode=0o755)
    yield Entry("lib64", "symlink", target="usr/lib64")
    yield Entry("usr/lib64", "directory", mode=0o755)
    yield Entry("etc/passwd", content=_PASSWD.encode())
    yield Entry("etc/group", content=_GROUP.encode())
    yield Entry("etc/nsswitch.conf", content=_NSSWITCH.encode())
    bundle = b"".join(certificates[path].rstrip(b"\n") + b"\n" for path in sorted(certificates))
    yield Entry("etc/ssl/certs/ca-certificates.crt", content=bundle)
    # where OpenSSL looks: its directory is /usr/lib/ssl
    yield Entry(
        "usr/lib/ssl/cert.pem", "symlink", target="../../../etc/ssl/certs/ca-certificates.crt"
    )
    yield Entry("usr/lib/ssl/certs", "symlink", target="../../../etc/ssl/certs")
    for path in ("dev", "proc", "sys", "run", "home", "opt"):
        yield Entry(path, "directory", mode=0o755)
    for path in ("tmp", "var/tmp"):
        yield Entry(path, "directory", mode=0o1777)
    yield Entry("var/lib/edgekit", "directory", mode=0o755, owner=USER)


_KEPT_EMPTY = frozenset(
    (
        *("dev", "proc", "sys", "run", "home", "opt", "root", "tmp", "usr/bin", "usr/sbin"),
        *("usr/lib64", "var/cache", "var/lib/edgekit", "var/log", "var/tmp"),
    )
)


def _without_empty(entries: Iterable[Entry]) -> list[Entry]:
    """Leave out directories in which trimming left nothing."""
    listed = list(entries)
    used = set(_KEPT_EMPTY)
    for entry in listed:
        if entry.kind == "directory" and entry.path not in _KEPT_EMPTY:
            continue
        path = entry.path
        while path:
            used.add(path)
            path = path.rpartition("/")[0]
    return [entry for entry in listed if entry.path in used]
