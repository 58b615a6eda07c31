"""What the registry keeps in its folder.

blobs/sha256/HEX                      contents, shared by all repositories
repositories/NAME/_blobs/HEX          empty: the repository has that blob
repositories/NAME/_manifests/HEX      the media type of that manifest
repositories/NAME/_tags/TAG           the digest that the tag stands for
uploads/ID                            bytes of an upload that goes on
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_UPLOAD = re.compile(r"[0-9a-f]{32}")


class Refused(Exception):
    """A request that the specification has an error code for.

    Args:
        status: of HTTP.
        code: the specification's, as in `BLOB_UNKNOWN`.
        message: for people.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Storage:
    """The folder. Names, tags and digests are checked here, before they become paths."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        (folder / "uploads").mkdir(exist_ok=True)
        (folder / "repositories").mkdir(exist_ok=True)

    # -- blobs --------------------------------------------------------------------------------

    def blob(self, name: str, digest: str) -> Path:
        """The file of a repository's blob."""
        if not self._mark(name, "_blobs", _hex(digest)).exists():
            raise Refused(404, "BLOB_UNKNOWN", f"{name} has no blob {digest}")
        return self._content(digest)

    def mount(self, name: str, digest: str, source: str) -> bool:
        """Give a repository a blob of another; False where that has none."""
        try:
            self.blob(source, digest)
        except Refused:
            return False
        _write(self._mark(name, "_blobs", _hex(digest)), b"")
        return True

    def delete_blob(self, name: str, digest: str) -> None:
        """Take a blob out of a repository."""
        self.blob(name, digest)
        self._mark(name, "_blobs", _hex(digest)).unlink()

    # -- uploads ------------------------------------------------------------------------------

    def start_upload(self, name: str) -> str:
        """Open an upload and return its id."""
        _checked(NAME, name, "NAME_INVALID")
        upload = secrets.token_hex(16)
        _write(self.folder / "uploads" / upload, b"")
        return upload

    def upload(self, upload: str) -> Path:
        """The file that takes an upload's bytes."""
        path = self.folder / "uploads" / upload
        if not _UPLOAD.fullmatch(upload) or not path.exists():
            raise Refused(404, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")
        return path

    def finish_upload(self, name: str, upload: str, digest: str) -> None:
        """Turn an upload into a blob, if its bytes have that digest."""
        path = self.upload(upload)
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual != _hex(digest):
            path.unlink()
            raise Refused(400, "DIGEST_INVALID", f"the bytes have the digest sha256:{actual}")
        path.replace(self._content(digest))
        _write(self._mark(name, "_blobs", actual), b"")

    def cancel_upload(self, upload: str) -> None:
        """Drop an upload."""
        self.upload(upload).unlink()

    # -- manifests ----------------------------------------------------------------------------

    def put_manifest(self, name: str, target: str, media_type: str, data: bytes) -> str:
        """Store a manifest whose parts are all here; returns its digest."""
        actual = "sha256:" + hashlib.sha256(data).hexdigest()
        if ":" in target and target != actual:
            raise Refused(400, "DIGEST_INVALID", f"the manifest has the digest {actual}")
        if ":" not in target:
            _checked(TAG, target, "TAG_INVALID")
        for kind, digest in _parts(data):
            if not self._mark(name, kind, _hex(digest)).exists():
                raise Refused(400, "MANIFEST_BLOB_UNKNOWN", f"{name} has no {digest}")
        _write(self._content(actual), data)
        _write(self._mark(name, "_manifests", _hex(actual)), media_type.encode())
        if ":" not in target:
            _write(self._mark(name, "_tags", target), actual.encode())
        return actual

    def manifest(self, name: str, target: str) -> tuple[str, str, bytes]:
        """Media type, digest and bytes of the manifest at a tag or digest."""
        digest = self._digest_of(name, target)
        try:
            media_type = self._mark(name, "_manifests", _hex(digest)).read_text()
            return media_type, digest, self._content(digest).read_bytes()
        except FileNotFoundError:
            raise Refused(404, "MANIFEST_UNKNOWN", f"{name} has no {target}") from None

    def delete_manifest(self, name: str, target: str) -> None:
        """Take a manifest away with the tags that stand for it; a tag alone when given a tag."""
        _media_type, digest, _data = self.manifest(name, target)
        for tag in self.tags(name):
            if tag == target or (":" in target and self._digest_of(name, tag) == digest):
                self._mark(name, "_tags", tag).unlink()
        if ":" in target:
            self._mark(name, "_manifests", _hex(digest)).unlink()

    def tags(self, name: str) -> list[str]:
        """The repository's tags, sorted."""
        folder = self._repository(name)
        if not folder.is_dir():
            raise Refused(404, "NAME_UNKNOWN", f"there is no repository {name}")
        tags = folder / "_tags"
        return sorted(path.name for path in tags.iterdir()) if tags.is_dir() else []

    def repositories(self) -> list[str]:
        """All repositories, sorted."""
        root = self.folder / "repositories"
        return sorted(path.parent.relative_to(root).as_posix() for path in root.rglob("_manifests"))

    def referrers(self, name: str, digest: str) -> list[dict[str, Any]]:
        """Descriptors of the manifests whose subject is `digest`."""
        _hex(digest)
        folder = self._repository(name) / "_manifests"
        found = []
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            data = self._content(f"sha256:{path.name}").read_bytes()
            if subject_of(data) != digest:
                continue
            manifest = json.loads(data)
            config = (manifest.get("config") or {}).get("mediaType", "")
            found.append(
                {
                    "mediaType": path.read_text(),
                    "digest": f"sha256:{path.name}",
                    "size": len(data),
                    "artifactType": manifest.get("artifactType") or config,
                    "annotations": manifest.get("annotations") or {},
                }
            )
        return found

    # -- paths --------------------------------------------------------------------------------

    def _digest_of(self, name: str, target: str) -> str:
        if ":" in target:
            _hex(target)
            return target
        _checked(TAG, target, "TAG_INVALID")
        try:
            return self._mark(name, "_tags", target).read_text()
        except FileNotFoundError:
            raise Refused(404, "MANIFEST_UNKNOWN", f"{name} has no tag {target}") from None

    def _content(self, digest: str) -> Path:
        return self.folder / "blobs" / "sha256" / _hex(digest)

    def _repository(self, name: str) -> Path:
        _checked(NAME, name, "NAME_INVALID")
        return self.folder / "repositories" / name

    def _mark(self, name: str, kind: str, item: str) -> Path:
        return self._repository(name) / kind / item


def _parts(data: bytes) -> Iterator[tuple[str, str]]:
    """What a manifest needs in its repository: blobs, or manifests in the case of an index."""
    try:
        value = json.loads(data)
        for descriptor in [value.get("config"), *(value.get("layers") or [])]:
            # layers with addresses of their own need not be here
            if descriptor and not descriptor.get("urls"):
                yield "_blobs", str(descriptor["digest"])
        for descriptor in value.get("manifests") or []:
            yield "_manifests", str(descriptor["digest"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(400, "MANIFEST_INVALID", "the manifest does not read") from error


def subject_of(data: bytes) -> str:
    """The digest that a manifest is about; empty for most."""
    return str((json.loads(data).get("subject") or {}).get("digest") or "")


def _hex(digest: str) -> str:
    found = DIGEST.fullmatch(digest)
    if not found:
        raise Refused(400, "DIGEST_INVALID", f"{digest!r} is no sha256 digest")
    return found[1]


def _checked(pattern: re.Pattern[str], text: str, code: str) -> None:
    if not pattern.fullmatch(text):
        raise Refused(400, code, f"{text!r} is not allowed")


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent.parent / f".partial-{secrets.token_hex(8)}"
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)  # noqa: PTH105 - says what it is: atomic
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
