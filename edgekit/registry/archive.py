"""A whole registry as one file, and back: to move it, or to keep it.

The archive is a tar: first everything that is recorded, as JSON in `registry/sha256/HEX`, then
each file once, as `blobs/sha256/HEX`. The same registry gives the same bytes. What comes in is
trusted in nothing: only these names, only plain files, no more bytes than recorded, each file what
its digest says, each ONNX file read and checked again.
"""

import hashlib
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa
from pydantic import ValidationError

from edgekit.errors import Conflict, ModelError, RegistryError
from edgekit.registry.archive_record import (
    Damage,
    Deployment,
    File,
    Graph,
    Image,
    Labels,
    Model,
    Profile,
    Record,
    Spec,
    Standing,
    Version,
    check_references,
    parents_first,
)
from edgekit.registry.blobs import BlobStore
from edgekit.registry.database import Database, explained
from edgekit.registry.onnxfile import check_graph, read_contents
from edgekit.registry.records import TensorSpec, check_labels, check_path
from edgekit.registry.schema import (
    aliases,
    deployments,
    graph_properties,
    graph_tags,
    graphs,
    image_properties,
    image_tags,
    images,
    models,
    profiles,
    version_files,
    version_properties,
    version_tags,
    versions,
)
from edgekit.registry.versions import put_labels
from edgekit.wholefile import whole_file

_RECORD = "registry/sha256/"
_BLOBS = "blobs/sha256/"
_LARGEST_RECORD = 1 << 28


def export_registry(database: Database, blobs: BlobStore, target: Path) -> Record:
    """Write the archive to `target`, which is whole or not there.

    Raises:
        RegistryError: a file is missing or damaged, or the archive cannot be written.
    """
    with database.reading() as connection:
        record = _read(connection)
    with explained(f"writing {target}"), whole_file(target) as file:
        _write(file, record, blobs)
    return record


def import_registry(database: Database, blobs: BlobStore, source: Path) -> Record:
    """Take everything in the archive into a registry that has none of its names.

    The files are stored first, then all rows in one transaction.

    Raises:
        RegistryError: it is no archive, or is damaged.
        Conflict: a model of this name is there already.
    """
    with explained(f"reading {source}"), source.open("rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                record = _read_record(archive)
                with database.reading() as connection:
                    _refuse_known(connection, record)
                _store(archive, record, blobs)
        except tarfile.TarError as error:
            raise _damaged(source, f"no tar ({error})") from error
        except Damage as error:
            raise _damaged(source, str(error)) from error
    with database.writing(alone=True) as connection:
        _refuse_known(connection, record)
        for digest in record.files():
            if not blobs.exists(digest):
                raise RegistryError(f"{digest} was collected meanwhile", hint="import again")
        _insert(connection, record)
    return record


def _damaged(source: Path, what: str) -> RegistryError:
    return RegistryError(
        f"{source} is no whole archive of a registry: {what}", hint="export it again"
    )


def _read(connection: sa.Connection) -> Record:
    """All rows, in an order that depends on nothing but what they say."""
    names = {row.id: row.name for row in connection.execute(sa.select(models))}
    rows = connection.execute(sa.select(versions).order_by(versions.c.version)).all()
    refs = {row.id: (names[row.model_id], row.version) for row in rows}

    def labels(table: sa.Table, owner: int) -> Labels:
        chosen = sa.select(table).where(table.c.owner_id == owner).order_by(table.c.key)
        return {row.key: row.value for row in connection.execute(chosen)}

    def measured(owner: int) -> tuple[Profile, ...]:
        chosen = sa.select(profiles).where(profiles.c.version_id == owner)
        ordered = connection.execute(chosen.order_by(profiles.c.created, profiles.c.id))
        return tuple(Profile(measured=row.measured, created=row.created) for row in ordered)

    def files(owner: int) -> tuple[File, ...]:
        chosen = sa.select(version_files).where(version_files.c.version_id == owner)
        ordered = connection.execute(chosen.order_by(version_files.c.path))
        return tuple(File(**_fields(row, "path", "role", "digest", "size")) for row in ordered)

    def version(row: Any) -> Version:
        return Version(
            **_fields(row, "version", "framework", "filename", "digest", "size"),
            **_fields(row, "created", "deleted"),
            inputs=tuple(row.inputs),
            outputs=tuple(row.outputs),
            tags=labels(version_tags, row.id),
            properties=labels(version_properties, row.id),
            parent=refs.get(row.parent_id),
            profiles=measured(row.id),
            files=files(row.id),
        )

    def standing(model_id: int) -> tuple[Standing, ...]:
        chosen = sa.select(aliases).where(aliases.c.model_id == model_id).order_by(aliases.c.name)
        return tuple(
            Standing(name=row.name, version=refs[row.version_id][1], protected=row.protected)
            for row in connection.execute(chosen)
        )

    return Record(
        models=tuple(
            Model(
                name=row.name,
                counter=row.counter,
                versions=tuple(version(each) for each in rows if each.model_id == row.id),
                aliases=standing(row.id),
            )
            for row in connection.execute(sa.select(models).order_by(models.c.name))
        ),
        images=tuple(
            Image(
                **_fields(row, "digest", "reference", "platforms", "created"),
                model=refs[row.version_id],
                tags=labels(image_tags, row.id),
                properties=labels(image_properties, row.id),
            )
            for row in connection.execute(
                sa.select(images).order_by(images.c.digest, images.c.reference)
            )
        ),
        graphs=tuple(
            Graph(
                **_fields(row, "digest", "size", "board", "cycles", "proof", "created"),
                model=refs[row.version_id],
                tags=labels(graph_tags, row.id),
                properties=labels(graph_properties, row.id),
            )
            for row in connection.execute(sa.select(graphs).order_by(graphs.c.digest))
        ),
        deployments=tuple(
            Deployment(
                **_fields(row, "hub", "name", "image", "condition", "seen", "ended"),
                model=refs[row.version_id],
            )
            for row in connection.execute(
                sa.select(deployments).order_by(
                    deployments.c.hub, deployments.c.name, deployments.c.image
                )
            )
        ),
    )


def _fields(row: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _write(file: IO[bytes], record: Record, blobs: BlobStore) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        text = record.model_dump_json(indent=1).encode()
        name = _RECORD + hashlib.sha256(text).hexdigest()
        archive.addfile(_member(name, len(text)), io.BytesIO(text))
        for digest, size in sorted(record.files().items()):
            with blobs.path(digest).open("rb") as blob:
                archive.addfile(_member(_BLOBS + digest.partition(":")[2], size), blob)


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o444
    return member


def _read_record(archive: tarfile.TarFile) -> Record:
    first = archive.next()
    if first is None or not first.name.startswith(_RECORD) or not first.isreg():
        raise Damage("it does not begin with a registry's record")
    if first.size > _LARGEST_RECORD:
        raise Damage(f"its record has {first.size:,} bytes")
    file = archive.extractfile(first)
    assert file is not None
    text = file.read()
    if hashlib.sha256(text).hexdigest() != first.name.removeprefix(_RECORD):
        raise Damage("its record is damaged")
    try:
        record = Record.model_validate_json(text)
        for _, version in record.versions():
            check_labels("tag", version.tags)
            check_labels("property", version.properties)
            for path in (version.filename, *(file.path for file in version.files)):
                check_path(path)
    except (ValidationError, RegistryError) as error:
        raise Damage(f"its record does not fit: {' '.join(str(error).split())[:200]}") from error
    check_references(record)
    return record


def _refuse_known(connection: sa.Connection, record: Record) -> None:
    wanted = [model.name for model in record.models]
    known = connection.execute(
        sa.select(models.c.name).where(models.c.name.in_(wanted)).order_by(models.c.name)
    ).scalars()
    names = ", ".join(known)
    if names:
        raise Conflict(
            f"the registry has models of these names already: {names}",
            hint="import into another workspace: set EDGEKIT_WORKSPACE",
        )


def _store(archive: tarfile.TarFile, record: Record, blobs: BlobStore) -> None:
    """Check every file and put it into the store."""
    missing = record.files()
    while member := archive.next():
        digest = "sha256:" + member.name.removeprefix(_BLOBS)
        if not member.isreg() or not member.name.startswith(_BLOBS) or digest not in missing:
            raise Damage(f"{member.name!r} does not belong there")
        if member.size != missing.pop(digest):
            raise Damage(f"{digest} has another size than recorded")
        file = archive.extractfile(member)
        assert file is not None
        with blobs.intake() as intake:
            incoming = intake.add_stream(file, member.name)
            if incoming.digest != digest:
                raise Damage(f"{digest} is damaged")
            _check_signature(incoming.path, digest, record)
            blobs.put(incoming)
    if missing:
        raise Damage(f"{min(missing)} is missing")


def _check_signature(path: Path, digest: str, record: Record) -> None:
    recorded = [
        version
        for _, version in record.versions()
        if version.digest == digest and version.framework == "onnx"
    ]
    if not recorded:
        return
    try:
        contents = read_contents(path, shown=Path(digest))
        if not contents.weights:
            check_graph(path, shown=Path(digest))
    except ModelError as error:
        raise Damage(str(error)) from error
    for version in recorded:
        if (_specs(version.inputs), _specs(version.outputs)) != (
            contents.signature.inputs,
            contents.signature.outputs,
        ):
            raise Damage(f"{digest} has other inputs or outputs than recorded")
        sizes = {file.path: file.size for file in version.files if file.role == "weights"}
        if sizes.keys() != contents.weights.keys() or any(
            sizes[path] < least for path, least in contents.weights.items()
        ):
            raise Damage(f"{digest} keeps its weights in other files than recorded")


def _specs(specs: Iterable[Spec]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(spec.name, spec.dtype, spec.shape) for spec in specs)


def _insert(connection: sa.Connection, record: Record) -> None:
    model_ids = {
        model.name: _add(connection, models, name=model.name, counter=model.counter)
        for model in record.models
    }
    ids: dict[tuple[str, int], int] = {}
    for name, version in parents_first(record):
        fields = version.model_dump(
            include={"version", "framework", "filename", "digest", "size", "created", "deleted"}
        )
        version_id = _add(
            connection,
            versions,
            model_id=model_ids[name],
            parent_id=version.parent and ids[version.parent],
            inputs=[spec.model_dump() for spec in version.inputs],
            outputs=[spec.model_dump() for spec in version.outputs],
            **fields,
        )
        ids[name, version.version] = version_id
        put_labels(connection, version_tags, version_id, version.tags)
        put_labels(connection, version_properties, version_id, version.properties)
        for file in version.files:
            connection.execute(
                version_files.insert().values(version_id=version_id, **file.model_dump())
            )
        for profile in version.profiles:
            _add(connection, profiles, version_id=version_id, **profile.model_dump())
    for model in record.models:
        for alias in model.aliases:
            connection.execute(
                aliases.insert().values(
                    model_id=model_ids[model.name],
                    name=alias.name,
                    version_id=ids[model.name, alias.version],
                    protected=alias.protected,
                )
            )
    for image in record.images:
        fields = image.model_dump(include={"digest", "reference", "platforms", "created"})
        image_id = _add(connection, images, version_id=ids[image.model], **fields)
        put_labels(connection, image_tags, image_id, image.tags)
        put_labels(connection, image_properties, image_id, image.properties)
    for graph in record.graphs:
        fields = graph.model_dump(exclude={"model", "tags", "properties"})
        graph_id = _add(connection, graphs, version_id=ids[graph.model], **fields)
        put_labels(connection, graph_tags, graph_id, graph.tags)
        put_labels(connection, graph_properties, graph_id, graph.properties)
    for deployment in record.deployments:
        fields = deployment.model_dump(exclude={"model"})
        _add(connection, deployments, version_id=ids[deployment.model], **fields)


def _add(connection: sa.Connection, table: sa.Table, **values: Any) -> int:
    """Insert a row; its id."""
    return int(
        connection.execute(table.insert().values(**values).returning(table.c.id)).scalar_one()
    )
