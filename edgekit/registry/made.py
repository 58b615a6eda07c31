"""What was made from a registry's models: images, FPGA packages, profiles, deployments."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.errors import RegistryError
from edgekit.registry import artefacts, deployments, versions
from edgekit.registry.artefacts import ArtefactQuery
from edgekit.registry.opened import Opened
from edgekit.registry.records import (
    NO_LABELS,
    Carried,
    DeploymentRecord,
    GraphRecord,
    ImageRecord,
    Labels,
    ModelRef,
    ProfileRecord,
    check_digest,
    check_labels,
)


class Made(Opened):
    """What a registry knows of that which was made from its models."""

    def record_image(
        self,
        model: ModelRef,
        *,
        digest: str,
        reference: str,
        platforms: Sequence[str],
        tags: Labels = NO_LABELS,
        properties: Labels = NO_LABELS,
    ) -> None:
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

    def images(self, query: ArtefactQuery | None = None) -> list[ImageRecord]:
        """The images that fit `query` (all, without one), the oldest first."""
        with self._database.reading() as connection:
            return artefacts.search_images(connection, query or ArtefactQuery())

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
        tags: Labels = NO_LABELS,
        properties: Labels = NO_LABELS,
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

    def graphs(self, query: ArtefactQuery | None = None) -> list[GraphRecord]:
        """The FPGA packages that fit `query` (all, without one), the oldest first."""
        with self._database.reading() as connection:
            return artefacts.search_graphs(connection, query or ArtefactQuery())

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
