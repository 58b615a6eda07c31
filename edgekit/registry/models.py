"""The models of a registry: registered in counted versions, found, tagged, deleted, restored."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from edgekit.errors import Conflict, InUse, NotFound, RegistryError
from edgekit.registry import aliases, uses, versions
from edgekit.registry.copies import copy_files, local_model
from edgekit.registry.opened import Opened
from edgekit.registry.records import (
    NO_LABELS,
    Labels,
    ModelRef,
    ModelVersion,
    check_alias,
    check_labels,
)
from edgekit.registry.registering import ONNX, Sources, take_in
from edgekit.registry.schema import version_tags
from edgekit.registry.versions import Query

_log = logging.getLogger(__name__)


class Models(Opened):
    """What a registry knows of models."""

    def register(
        self,
        path: Path,
        name: str,
        *,
        tags: Labels = NO_LABELS,
        properties: Labels = NO_LABELS,
        parent: ModelRef | None = None,
        framework: str = ONNX,
        score: Path | None = None,
        requirements: Path | None = None,
    ) -> ModelVersion:
        """Store a model file as the next version of `name`.

        Args:
            path: the file; of ONNX, whose inputs and outputs are read and whose weights may be
                in files beside it, or of another framework.
            name: of the model; a new one begins at version 1.
            tags: can be changed later.
            properties: cannot.
            parent: the version it was made from.
            framework: `onnx`, or what else the file is for; such a file is stored as it is.
            score: the script that loads the model and answers requests, with `init()` and
                `run(data)`.
            requirements: what the script imports, as pip reads it.

        Raises:
            ModelError: a file is missing, the model no valid ONNX or the script no scoring script.
            NotFound: there is no such parent.
            RegistryError: a name, tag or property is not well formed, or storing failed.
        """
        ref = ModelRef(name)
        wanted_tags, fixed = check_labels("tag", tags), check_labels("property", properties)
        sources = Sources(path, framework, score, requirements)
        if parent is not None:
            parent = self.get(parent).ref
        with self._blobs.intake() as intake:
            taken = take_in(sources, intake)
            for incoming in taken.incoming:
                self._blobs.put(incoming)
        with self._database.writing() as connection:
            self._hold_stored(*taken.incoming)
            version_id = versions.insert(
                connection,
                ref.name,
                taken=taken,
                framework=framework,
                tags=wanted_tags,
                properties=fixed,
                parent_id=None if parent is None else versions.find_id(connection, parent),
            )
            registered = versions.load(connection, version_id)
        _log.info("registered %s as %s", path, registered.ref)
        return registered

    def get(self, ref: ModelRef) -> ModelVersion:
        """The version that `ref` stands for.

        Raises:
            NotFound: there is none; says which there are.
        """
        with self._database.reading() as connection:
            return versions.load(connection, versions.find_id(connection, ref))

    def models(self, query: Query | None = None) -> list[ModelVersion]:
        """The versions that fit `query` (all, without one), by name and number."""
        with self._database.reading() as connection:
            return versions.search(connection, query or Query())

    def model_file(self, ref: ModelRef) -> Path:
        """A local file with the model, verified against its digest on this very call.

        Where the model keeps weights in other files, they are beside it, verified as well.

        Raises:
            NotFound: there is no such version.
            RegistryError: a file is missing or damaged.
        """
        return local_model(self._blobs, self.get(ref))

    def model_bytes(self, ref: ModelRef) -> bytes:
        """An ONNX model as one message, weights that are kept beside it taken in.

        Raises:
            NotFound: there is no such version.
            ModelError: it is of another framework, or too large to be one message.
            RegistryError: a file is missing or damaged.
        """
        from edgekit.registry.onnxfile import read_whole  # slow to import

        version = self.get(ref)
        version.check_onnx()
        path = local_model(self._blobs, version)
        return read_whole(path) if version.files_for("weights") else path.read_bytes()

    def copy_model(self, ref: ModelRef, target: Path) -> tuple[Path, ...]:
        """Write a version's file to `target`, and what else it has beside it; all that was written.

        Each is whole or not there, and the model's file comes last.

        Raises:
            NotFound: there is no such version.
            Conflict: a file with another content is in the way of one that comes with the model.
            RegistryError: a file is missing or damaged, or cannot be written.
        """
        return copy_files(self._blobs, self.get(ref), target)

    def tag(self, ref: ModelRef, tags: Mapping[str, str | None]) -> ModelVersion:
        """Set tags of a version; a tag set to None is removed, those not named stay.

        Raises:
            NotFound: there is no such version.
            RegistryError: a tag is not well formed.
        """
        check_labels("tag", {key: value or "" for key, value in tags.items()})
        with self._database.writing() as connection:
            version_id = versions.find_id(connection, ref)
            versions.put_labels(connection, version_tags, version_id, tags)
            return versions.load(connection, version_id)

    def delete(self, ref: ModelRef) -> ModelVersion:
        """Delete a version; until garbage collection it can be restored.

        Its number is never given again.

        Raises:
            NotFound: there is no such version.
            InUse: an image, an FPGA package or another version is made from it, or a protected
                alias stands for it; names them.
            RegistryError: `ref` has no version: which one to delete must be said.
        """
        if ref.version is None:
            raise RegistryError(
                f"say which version of {ref.name} is to be deleted",
                hint=f"write {ref.name}:VERSION",
            )
        with self._database.writing(alone=True) as connection:
            version_id = versions.find_id(connection, ref)
            gone = versions.load(connection, version_id)
            users = uses.users(connection, version_id)
            if users:
                raise InUse(
                    f"{gone.ref} is used by {', '.join(users)}",
                    hint=f"free it of these first: edgekit model show {gone.ref}",
                )
            versions.set_deleted(connection, version_id, datetime.now(UTC))
        return gone

    def restore(self, ref: ModelRef) -> ModelVersion:
        """Bring back a deleted version.

        Raises:
            NotFound: no such version is deleted, or garbage collection has taken it.
            Conflict: the version it was made from is deleted too.
        """
        with self._database.writing(alone=True) as connection:
            version_id = versions.find_id(connection, ref, deleted=True)
            version = versions.load(connection, version_id)
            if version.parent is not None:
                try:
                    versions.find_id(connection, version.parent)
                except NotFound as error:
                    raise Conflict(
                        f"{version.ref} was made from {version.parent}, which is deleted too",
                        hint=f"restore that first: edgekit model restore {version.parent}",
                    ) from error
            versions.set_deleted(connection, version_id, None)
            return versions.load(connection, version_id)

    def set_alias(
        self, ref: ModelRef, alias: str, *, protected: bool | None = None
    ) -> ModelVersion:
        """Let `alias` stand for a version; it moves from the one it stood for.

        Args:
            ref: the version.
            alias: begins with a letter; not `latest`.
            protected: guard the version against deletion and the alias against being moved, or
                lift this; None leaves it as it is.

        Raises:
            NotFound: there is no such version.
            Conflict: it is protected and stands for another version.
        """
        check_alias(alias)
        with self._database.writing() as connection:
            version_id = versions.find_id(connection, ref)
            aliases.put(connection, version_id, alias, protected)
            return versions.load(connection, version_id)

    def remove_alias(self, name: str, alias: str) -> None:
        """Remove an alias of the model `name`.

        Raises:
            NotFound: there is none.
            Conflict: it is protected.
        """
        with self._database.writing() as connection:
            version_id = versions.find_id(connection, ModelRef(name, alias=alias))
            aliases.remove(connection, version_id, alias)
