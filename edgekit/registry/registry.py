"""The registry: models in counted versions, and the images and FPGA packages made from them."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from edgekit.errors import Conflict, InUse, NotFound, RegistryError
from edgekit.registry import aliases, artefacts, deployments, uses, versions
from edgekit.registry.artefacts import ArtefactQuery
from edgekit.registry.blobs import BlobStore, Incoming
from edgekit.registry.copies import copy_files, local_model
from edgekit.registry.database import Database
from edgekit.registry.garbage import GRACE, Collected, collect
from edgekit.registry.records import (
    Carried,
    DeploymentRecord,
    GraphRecord,
    ImageRecord,
    Labels,
    ModelRef,
    ModelVersion,
    ProfileRecord,
    check_alias,
    check_digest,
    check_labels,
)
from edgekit.registry.registering import ONNX, Sources, take_in
from edgekit.registry.schema import version_tags
from edgekit.registry.versions import Query
from edgekit.workspace import Workspace

_log = logging.getLogger(__name__)

_NO_LABELS: Labels = {}


class Registry:
    """What a workspace has registered. Open it with `Registry.open`.

    A file is stored before the row that names it is written, and a row is gone before its file is:
    a process killed in between leaves no row without its file.

    Args:
        database: with the registry's tables.
        blobs: where the files are.
    """

    def __init__(self, database: Database, blobs: BlobStore) -> None:
        self._database = database
        self._blobs = blobs

    @classmethod
    def open(cls, workspace: Workspace) -> "Registry":
        """The registry of a workspace; its tables are made or migrated where they must be.

        Raises:
            RegistryError: the database or the blob store does not open.
        """
        return cls(Database(workspace.database_url), BlobStore(workspace.blob_url, workspace.cache))

    def register(
        self,
        path: Path,
        name: str,
        *,
        tags: Labels = _NO_LABELS,
        properties: Labels = _NO_LABELS,
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
            ModelError: it is too large to be one message.
            RegistryError: a file is missing or damaged.
        """
        from edgekit.registry.onnxfile import read_whole  # slow to import

        version = self.get(ref)
        path = local_model(self._blobs, version)
        return read_whole(path) if version.files_for("weights") else path.read_bytes()

    def stored_file(self, digest: str) -> Path:
        """A local file with a stored file's content, verified on this very call.

        Raises:
            RegistryError: it is missing or damaged.
        """
        return self._blobs.path(digest)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for files on their way in; gone when the block ends, swept where it is killed.

        Raises:
            RegistryError: it cannot be made.
        """
        with self._blobs.intake() as intake:
            yield intake.folder

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
                f"which version of {ref.name} is to be deleted?", hint=f"write {ref.name}:VERSION"
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

    def export_archive(self, target: Path) -> int:
        """Write everything to one file; the number of versions in it, deleted ones included.

        Raises:
            RegistryError: a stored file is missing or damaged, or `target` cannot be written.
        """
        from edgekit.registry.archive import export_registry  # slow to import

        record = export_registry(self._database, self._blobs, target)
        return sum(1 for _ in record.versions())

    def import_archive(self, source: Path) -> int:
        """Take in everything from an archive, or nothing; the number of versions.

        Raises:
            RegistryError: it is no archive, or is damaged.
            Conflict: a model of a name in it is here already.
        """
        from edgekit.registry.archive import import_registry  # slow to import

        record = import_registry(self._database, self._blobs, source)
        return sum(1 for _ in record.versions())

    def collect_garbage(
        self,
        *,
        deleted_for: timedelta = timedelta(0),
        grace: timedelta = GRACE,
        dry_run: bool = False,
    ) -> Collected:
        """Remove deleted versions for good, and every file that nothing names any more.

        Args:
            deleted_for: keep what was deleted more recently than this.
            grace: keep files younger than this, which may be about to be registered.
            dry_run: only say what would be removed.
        """
        return collect(
            self._database, self._blobs, deleted_for=deleted_for, grace=grace, dry_run=dry_run
        )

    def record_image(
        self,
        model: ModelRef,
        *,
        digest: str,
        reference: str,
        platforms: Sequence[str],
        tags: Labels = _NO_LABELS,
        properties: Labels = _NO_LABELS,
    ) -> ImageRecord:
        """Record that an image was made from a model version, which can then not be deleted.

        Args:
            model: the version inside.
            digest: `sha256:...` of the image's index or manifest.
            reference: where the image is.
            platforms: as `linux/arm64`.
            tags: can be changed by recording it again.
            properties: cannot.

        Raises:
            NotFound: there is no such version.
            RegistryError: the digest, a tag or a property is not well formed.
        """
        check_digest(digest)
        with self._database.writing(alone=True) as connection:
            artefacts.insert_image(
                connection,
                versions.find_id(connection, model),
                digest=digest,
                reference=reference,
                platforms=tuple(platforms),
                tags=check_labels("tag", tags),
                properties=check_labels("property", properties),
            )
            recorded = artefacts.search_images(connection, ArtefactQuery(digest=digest))
        return next(image for image in recorded if image.reference == reference)

    def images(
        self,
        query: ArtefactQuery | None = None,
        *,
        model: ModelRef | None = None,
        digest: str | None = None,
    ) -> list[ImageRecord]:
        """The images that fit, the oldest first.

        Args:
            query: what to look for; where there is none, `model` and `digest` are all of it.
            model: made from this version, or from any of the model's where none is named.
            digest: with this digest.
        """
        wanted = query or ArtefactQuery(model=model, digest=digest)
        with self._database.reading() as connection:
            return artefacts.search_images(connection, wanted)

    def tag_artefact(
        self, digest: str, tags: Mapping[str, str | None]
    ) -> list[ImageRecord] | list[GraphRecord]:
        """Set tags of an image or an FPGA package; one set to None is removed, others stay.

        Returns:
            Its records: an image has one for each place where it is.

        Raises:
            NotFound: neither has this digest.
            RegistryError: the digest or a tag is not well formed.
        """
        check_digest(digest)
        check_labels("tag", {key: value or "" for key, value in tags.items()})
        with self._database.writing() as connection:
            return artefacts.tag_artefact(connection, digest, tags)

    def delete_image(self, digest: str, reference: str | None = None) -> None:
        """Forget an image, under one of its references or all; the image itself stays.

        Raises:
            NotFound: no such image is recorded.
        """
        with self._database.writing() as connection:
            artefacts.delete_image(connection, digest, reference)

    def record_graph(
        self,
        path: Path,
        *,
        model: ModelRef,
        board: str,
        cycles: int,
        proof: Mapping[str, Any],
        tags: Labels = _NO_LABELS,
        properties: Labels = _NO_LABELS,
    ) -> GraphRecord:
        """Store an FPGA package and record what it was made from.

        Args:
            path: the package file.
            model: the version it computes.
            board: it was compiled for.
            cycles: estimated clock cycles for one input.
            proof: the compiler's summary of what it proved, as plain data.
            tags: can be changed later.
            properties: cannot.

        Raises:
            NotFound: there is no such version.
            RegistryError: a tag or property is not well formed, or storing failed.
        """
        wanted_tags, fixed = check_labels("tag", tags), check_labels("property", properties)
        if not path.is_file():
            raise RegistryError(f"there is no file {path}")
        with self._blobs.intake() as intake:
            incoming = intake.add(path)
            self._blobs.put(incoming)
        with self._database.writing(alone=True) as connection:
            self._hold_stored(incoming)
            artefacts.insert_graph(
                connection,
                versions.find_id(connection, model),
                digest=incoming.digest,
                size=incoming.size,
                board=board,
                cycles=cycles,
                proof=proof,
                tags=wanted_tags,
                properties=fixed,
            )
            (recorded,) = artefacts.search_graphs(connection, ArtefactQuery(digest=incoming.digest))
        return recorded

    def record_profile(self, model: ModelRef, measured: Mapping[str, Any]) -> None:
        """Keep what was measured of a version, as plain data.

        Raises:
            NotFound: there is no such version.
        """
        with self._database.writing() as connection:
            version_id = versions.find_id(connection, model)
            artefacts.insert_profile(connection, version_id, measured)

    def profiles(self, model: ModelRef | None = None) -> list[ProfileRecord]:
        """The profiles of a version, of all of a model's, or of all models, the oldest first."""
        with self._database.reading() as connection:
            return artefacts.search_profiles(connection, model)

    def graphs(
        self,
        query: ArtefactQuery | None = None,
        *,
        model: ModelRef | None = None,
        board: str | None = None,
    ) -> list[GraphRecord]:
        """The FPGA packages that fit, the oldest first.

        Args:
            query: what to look for; where there is none, `model` and `board` are all of it.
            model: made from this version, or from any of the model's where none is named.
            board: compiled for it.
        """
        wanted = query or ArtefactQuery(model=model, board=board)
        with self._database.reading() as connection:
            return artefacts.search_graphs(connection, wanted)

    def graph_file(self, graph: GraphRecord | str) -> Path:
        """A local file with an FPGA package, verified against its digest on this very call.

        Args:
            graph: its record or digest.

        Raises:
            RegistryError: the file is missing or damaged.
        """
        return self._blobs.path(graph if isinstance(graph, str) else graph.digest)

    def delete_graph(self, digest: str) -> None:
        """Forget an FPGA package.

        Raises:
            NotFound: no such package is recorded.
            RegistryError: the digest is not well formed.
        """
        check_digest(digest)
        with self._database.writing() as connection:
            artefacts.delete_graph(connection, digest)

    def note_deployments(self, hub: str, carried: Mapping[str, Carried]) -> None:
        """Record what the deployments of a hub carry now; what they carried is remembered.

        Args:
            hub: its host name.
            carried: all deployments that it has, by name.
        """
        with self._database.writing(alone=True) as connection:
            deployments.note(connection, hub, carried)

    def deployments(self, model: ModelRef) -> list[DeploymentRecord]:
        """The deployments that carry a version, or carried it, the oldest first.

        Raises:
            NotFound: there is no such version.
        """
        with self._database.reading() as connection:
            return deployments.search(connection, versions.find_id(connection, model))

    def _hold_stored(self, *stored: Incoming) -> None:
        """Make sure, now that garbage collection is locked out, that it has taken no file."""
        for incoming in stored:
            if not self._blobs.exists(incoming.digest):
                raise RegistryError(
                    f"the file {incoming.digest} was collected while it was registered",
                    hint="try again",
                )
