"""What `edgekit image` calls an image: a model version, a digest, a place; and how it is shown."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from edgekit.oci.blobs import Blobs
    from edgekit.oci.descriptor import Descriptor
    from edgekit.packager.store import Store
    from edgekit.registry import ImageRecord, Registry
    from edgekit.workspace import Workspace

FILE = click.Path(dir_okay=False, path_type=Path)
PLAIN_HTTP = click.option(
    "--plain-http", is_flag=True, help="Talk HTTP without TLS; unasked only to this machine."
)


@contextmanager
def located(name: str, plain_http: bool) -> "Iterator[tuple[Blobs, Descriptor]]":
    """The blobs and the root of the image that `name` stands for."""
    from edgekit.oci.layout import Layout

    if name.startswith("oci:"):
        folder, _, called = name.removeprefix("oci:").partition(":")
        layout = Layout(Path(folder))
        yield layout.blobs, layout.find(called)
    elif "/" in name:
        with _remote(name, plain_http) as found:
            yield found
    else:
        yield _local(name)


@contextmanager
def _remote(name: str, plain_http: bool) -> "Iterator[tuple[Blobs, Descriptor]]":
    """An image of a registry: its documents are fetched, its layers are not."""
    import tempfile

    from edgekit.oci.blobs import Blobs
    from edgekit.oci.client import RegistryClient
    from edgekit.oci.reference import Reference
    from edgekit.oci.transfer import fetch_documents

    reference = Reference.parse(name)
    with (
        tempfile.TemporaryDirectory(prefix="edgekit-show-") as folder,
        RegistryClient(reference, plain_http=plain_http) as client,
    ):
        blobs = Blobs(Path(folder))
        yield blobs, fetch_documents(reference, blobs, client)


def _local(name: str) -> "tuple[Blobs, Descriptor]":
    """The newest image that was built here of a model version, or the one with a digest."""
    from edgekit.oci.image import stored_root
    from edgekit.workspace import Workspace

    blobs = image_store(Workspace.find()).blobs
    return blobs, stored_root(blobs, recorded_digest(name))


def recorded(registry: "Registry", name: str) -> "list[ImageRecord]":
    """The records of an image: by its place, its digest, or the model version in it."""
    from edgekit.oci.descriptor import is_digest
    from edgekit.registry import ArtefactQuery, ModelRef

    if is_digest(name):
        return registry.images(ArtefactQuery(digest=name))
    if "/" in name or name.startswith(("oci:", "docker")):
        return [record for record in registry.images() if record.reference == name]
    return registry.images(ArtefactQuery(model=registry.get(ModelRef.parse(name)).ref))


def recorded_digest(name: str) -> str:
    """The digest of the newest image recorded under a name.

    Raises:
        NotFound: none was built here.
    """
    from edgekit.errors import NotFound
    from edgekit.registry import Registry
    from edgekit.workspace import Workspace

    found = recorded(Registry.open(Workspace.find()), name)
    if not found:
        raise NotFound(f"no image of {name} was built here", f"edgekit image build {name}")
    return found[-1].digest


def image_store(workspace: "Workspace") -> "Store":
    """The packager's folders of a workspace."""
    from edgekit.packager.store import Store

    return Store(workspace.cache, workspace.folder / "locks")


def store_here() -> "Store | None":
    """The packager's folders of the workspace found from here; None where there is none."""
    from edgekit.errors import WorkspaceError
    from edgekit.workspace import Workspace

    try:
        return image_store(Workspace.find())
    except WorkspaceError:
        return None


def shared(platforms: tuple[str, ...]) -> str:
    """Platforms for people."""
    return ", ".join(platform.removeprefix("linux/") for platform in platforms)


def size(count: int) -> str:
    """Bytes for people, in decimal units as registries show them."""
    if count < 1000:
        return f"{count} B"
    size = float(count)
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} GB"
