"""Images and FPGA packages: found by what they were made from, by tags, properties and text."""

from pathlib import Path

import pytest

from edgekit.errors import InUse, NotFound, RegistryError
from edgekit.registry import ArtefactQuery, Carried, ModelRef, Registry
from edgekit.workspace import Workspace


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


@pytest.fixture
def full(registry: Registry, digits: Path, tmp_path: Path) -> Registry:
    """digits:1 -> digits-int8:1; images 1 and 2 of digits, 3 of int8; packages of int8, other."""
    first = registry.register(digits, "digits").ref
    second = registry.register(digits, "digits", parent=first).ref
    int8 = registry.register(digits, "digits-int8", parent=first).ref
    registry.record_image(
        first,
        digest=digest(1),
        reference="lab.example/digits:1",
        platforms=["linux/amd64"],
        tags={"stage": "trial"},
        properties={"site": "Lyon"},
    )
    registry.record_image(
        second, digest=digest(2), reference="oci:out", platforms=[], tags={"stage": "production"}
    )
    registry.record_image(int8, digest=digest(3), reference="lab.example/int8:1", platforms=[])
    for number, board in enumerate(["ecp5-85f", "ecp5-85f", "ice40up5k"]):
        (tmp_path / "package").write_bytes(bytes([number]))
        registry.record_graph(
            tmp_path / "package",
            model=int8,
            board=board,
            cycles=number,
            proof={},
            tags={"number": str(number)},
            properties={"site": "Lyon"} if number else {},
        )
    return registry


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (ArtefactQuery(), [1, 2, 3]),
        (ArtefactQuery(model=ModelRef("digits")), [1, 2]),
        (ArtefactQuery(model=ModelRef("digits", 2)), [2]),
        (ArtefactQuery(uses=ModelRef("digits", 1)), [1, 2, 3]),
        (ArtefactQuery(uses=ModelRef("digits-int8")), [3]),
        (ArtefactQuery(tags={"stage": None}), [1, 2]),
        (ArtefactQuery(tags={"stage": "trial"}), [1]),
        (ArtefactQuery(properties={"site": "Lyon"}), [1]),
        (ArtefactQuery(latest=True), [2, 3]),
        (ArtefactQuery(latest=True, tags={"stage": "trial"}), []),
        (ArtefactQuery(text="LAB.example"), [1, 3]),
        (ArtefactQuery(text="lyon"), [1]),
        (ArtefactQuery(text="production"), [2]),
        (ArtefactQuery(text="int8"), [3]),
        (ArtefactQuery(text="%"), []),
        (ArtefactQuery(digest=digest(2)), [2]),
    ],
)
def test_images_are_found(full: Registry, query: ArtefactQuery, found: list[int]) -> None:
    assert [int(image.digest[7:], 16) for image in full.images(query)] == found


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (ArtefactQuery(), [0, 1, 2]),
        (ArtefactQuery(board="ecp5-85f"), [0, 1]),
        (ArtefactQuery(latest=True), [1, 2]),
        (ArtefactQuery(uses=ModelRef("digits", 1)), [0, 1, 2]),
        (ArtefactQuery(uses=ModelRef("digits", 2)), []),
        (ArtefactQuery(tags={"number": "1"}), [1]),
        (ArtefactQuery(properties={"site": None}), [1, 2]),
        (ArtefactQuery(text="ICE40"), [2]),
    ],
)
def test_packages_are_found(full: Registry, query: ArtefactQuery, found: list[int]) -> None:
    assert [graph.cycles for graph in full.graphs(query)] == found


def test_looking_for_what_uses_an_unknown_version_says_so(full: Registry) -> None:
    with pytest.raises(NotFound, match="no model named nobody"):
        full.images(ArtefactQuery(uses=ModelRef("nobody")))


def test_tags_of_images_and_packages_change_and_their_properties_stay(full: Registry) -> None:
    full.record_image(ModelRef("digits", 1), digest=digest(1), reference="b/d:1", platforms=[])

    images = full.tag_artefact(digest(1), {"stage": None, "line": "a"})
    (graph,) = full.tag_artefact(full.graphs()[1].digest, {"line": "b"})

    assert [image.tags for image in images] == [{"line": "a"}, {"line": "a"}]
    assert (graph.tags, graph.properties) == ({"line": "b", "number": "1"}, {"site": "Lyon"})
    with pytest.raises(NotFound, match="no image and no FPGA package"):
        full.tag_artefact(digest(9), {})
    with pytest.raises(RegistryError, match="no name for a tag"):
        full.tag_artefact(digest(1), {"a b": "c"})


HUB = "hub.example"


def carried(*numbers: int) -> Carried:
    return Carried("tags.site = 'Lyon'", frozenset(digest(number) for number in numbers))


def test_what_hubs_carry_is_recorded_and_remembered(full: Registry) -> None:
    full.note_deployments(HUB, {"one": carried(1, 99), "two": carried(2)})
    full.note_deployments("other.example", {"one": carried(1)})
    full.note_deployments(HUB, {"one": carried(1)})

    first = full.deployments(ModelRef("digits", 1))
    (second,) = full.deployments(ModelRef("digits", 2))

    assert [(each.hub, each.name, each.ended) for each in first] == [
        (HUB, "one", None),
        ("other.example", "one", None),
    ]
    assert second.ended is not None
    assert (second.image, second.condition) == (digest(2), "tags.site = 'Lyon'")


def test_a_deployment_that_is_back_has_not_ended(full: Registry) -> None:
    for now in ({"one": carried(1)}, {}, {"one": carried(1)}):
        full.note_deployments(HUB, now)

    (deployment,) = full.deployments(ModelRef("digits", 1))
    assert deployment.ended is None


def test_a_deployed_version_is_not_deleted(registry: Registry, digits: Path) -> None:
    ref = registry.register(digits, "digits").ref
    registry.record_image(ref, digest=digest(1), reference="r", platforms=[])
    registry.note_deployments(HUB, {"fleet-a-1": carried(1)})
    registry.delete_image(digest(1))

    with pytest.raises(InUse, match=r"digits:1 is used by deployment fleet-a-1 on hub\.example"):
        registry.delete(ref)
    registry.note_deployments(HUB, {})
    registry.delete(ref)


def test_an_archive_has_labels_and_deployments(full: Registry, tmp_path: Path) -> None:
    full.note_deployments(HUB, {"one": carried(1, 3)})
    full.export_archive(tmp_path / "archive.tar")
    other = Registry.open(Workspace.create(tmp_path / "other"))

    other.import_archive(tmp_path / "archive.tar")

    assert other.graphs() == full.graphs()
    assert other.images() == full.images()
    assert other.deployments(ModelRef("digits", 1)) == full.deployments(ModelRef("digits", 1))
