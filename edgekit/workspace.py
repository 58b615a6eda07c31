"""Where everything is kept: one folder with its settings, database, blobs and cache.

It is found as git finds a repository: the folder that `EDGEKIT_WORKSPACE` names, else the nearest
`.edgekit/` upwards. Its `workspace.toml` says where models are recorded and kept:

    database = "sqlite:///registry.sqlite3"     # or postgresql+psycopg://...
    blobs = "blobs"                             # or s3://bucket/prefix, abfs://container/prefix

Relative paths start at the workspace's folder, so that it can be moved as a whole. In the database
URL `${NAME}` stands for an environment variable: passwords need not be in the file.
"""

import json
import logging
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from edgekit.errors import WorkspaceError
from edgekit.wholefile import whole_file

_log = logging.getLogger(__name__)

FOLDER = ".edgekit"
VARIABLE = "EDGEKIT_WORKSPACE"
SETTINGS = "workspace.toml"
DATABASE = "sqlite:///registry.sqlite3"
BLOBS = "blobs"

_SQLITE = "sqlite:///"
_TEMPLATE = """\
# Where this workspace keeps its records and its files: see docs/models.md for other places.
database = {database}
blobs = {blobs}
"""


@dataclass(frozen=True)
class Workspace:
    """A folder and what its settings say.

    Args:
        folder: the workspace's folder, absolute.
        database: a SQLAlchemy URL; a relative SQLite path starts at `folder`.
        blobs: an fsspec URL or a path; a relative path starts at `folder`.
    """

    folder: Path
    database: str = DATABASE
    blobs: str = BLOBS

    def __post_init__(self) -> None:
        if not self.folder.is_absolute():
            raise WorkspaceError(f"the workspace's folder {self.folder} is not absolute")
        for setting, value in (("database", self.database), ("blobs", self.blobs)):
            if not isinstance(value, str) or not value:
                raise WorkspaceError(f"{setting} in {self.folder / SETTINGS} is not a text")

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL, environment variables filled in, SQLite's path absolute.

        Raises:
            WorkspaceError: a variable it names is not set.
        """
        url = _filled(self.database, os.environ)
        path = url.removeprefix(_SQLITE)
        return url if path == url else f"{_SQLITE}{self.folder / path}"

    @property
    def blob_url(self) -> str:
        """The fsspec URL of the folder that holds the blobs, without a slash at its end."""
        if "://" in self.blobs:
            return self.blobs.rstrip("/")
        return (self.folder / self.blobs).as_uri()

    @property
    def cache(self) -> Path:
        """A local folder for downloads and layers, made when asked for; safe to delete."""
        folder = self.folder / "cache"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @classmethod
    def find(cls, start: Path | None = None) -> "Workspace":
        """The workspace of `EDGEKIT_WORKSPACE`, else the nearest one at or above `start`.

        Args:
            start: where to begin to look upwards; the current folder by default.

        Raises:
            WorkspaceError: there is none, or its settings do not read.
        """
        begin = (start or Path.cwd()).absolute()
        folder = _locate(begin)
        if (folder / SETTINGS).is_file():
            return cls._read(folder)
        if os.environ.get(VARIABLE):
            raise WorkspaceError(
                f"{VARIABLE} names {folder}, which is no workspace",
                hint="register a model to make one there: edgekit model register --help",
            )
        raise WorkspaceError(
            f"no workspace at {begin} or above",
            hint=f"register a model to make one (edgekit model register --help), or set {VARIABLE}",
        )

    @classmethod
    def find_or_create(
        cls, start: Path | None = None, *, announce: Callable[[str], None] = _log.info
    ) -> "Workspace":
        """The workspace `find` finds, else a new one where it would be.

        A new one is made in the folder of `EDGEKIT_WORKSPACE`, else in `.edgekit/` at `start`.

        Args:
            start: where to begin to look upwards; the current folder by default.
            announce: takes the message that a workspace was made, if one was.

        Raises:
            WorkspaceError: its settings do not read, or it cannot be made.
        """
        folder = _locate((start or Path.cwd()).absolute())
        if (folder / SETTINGS).is_file():
            return cls._read(folder)
        made = cls.create(folder)
        announce(f"Made a workspace in {folder}")
        return made

    @classmethod
    def create(cls, folder: Path, *, database: str = DATABASE, blobs: str = BLOBS) -> "Workspace":
        """A new workspace in `folder`, which is made if it is missing.

        Args:
            folder: the workspace's folder.
            database: as in `workspace.toml`.
            blobs: likewise.

        Raises:
            WorkspaceError: the folder cannot be made or written.
        """
        settings = folder.absolute() / SETTINGS
        try:
            settings.parent.mkdir(parents=True, exist_ok=True)
            # a JSON string is a TOML string
            text = _TEMPLATE.format(database=json.dumps(database), blobs=json.dumps(blobs))
            with whole_file(settings) as file:
                file.write(text.encode())
        except OSError as error:
            raise WorkspaceError(
                f"cannot make a workspace in {folder}: {error.strerror}"
            ) from error
        _log.info("made the workspace %s", settings.parent)
        return cls._read(settings.parent)

    @classmethod
    def _read(cls, folder: Path) -> "Workspace":
        settings = folder / SETTINGS
        try:
            values = tomllib.loads(settings.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise WorkspaceError(f"{settings} does not read: {error}") from error
        unknown = sorted(set(values) - {"database", "blobs"})
        if unknown:
            raise WorkspaceError(
                f"{settings} has the unknown setting {', '.join(unknown)}",
                hint="it may hold database and blobs",
            )
        return cls(folder, values.get("database", DATABASE), values.get("blobs", BLOBS))


def _locate(begin: Path) -> Path:
    """The folder of the workspace for `begin`; where there is none yet, the one it would have."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).absolute()
    for above in (begin, *begin.parents):
        if (above / FOLDER / SETTINGS).is_file():
            return above / FOLDER
    return begin / FOLDER


def _filled(url: str, environment: Mapping[str, str]) -> str:
    """The URL with `${NAME}` replaced; quoted, unless the variable holds the whole URL."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in environment:
            raise WorkspaceError(
                f"the database URL needs the environment variable {name}", hint=f"set {name}"
            )
        return environment[name] if match[0] == url else quote(environment[name], safe="")

    return re.sub(r"\$\{(\w+)\}", value, url)
