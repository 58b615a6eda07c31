"""What a version came from and what came of it, as a tree."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.registry import ModelVersion, Registry


def lineage(registry: "Registry", version: "ModelVersion") -> dict[str, Any]:
    """The tree from the version's first ancestor down, as plain data.

    Each node has `kind` (model, image, package or deployment), `name`, `how` it came to be and what
    `became` of it; `here` is true of the version itself. Of the ancestors only the way to the
    version is in it, of the version everything.
    """
    node = _below(registry, version)
    node["here"] = True
    while version.parent is not None:
        version = registry.get(version.parent)
        node = _model(version, [node])
    return node


def _below(registry: "Registry", version: "ModelVersion") -> dict[str, Any]:
    from edgekit.registry import ArtefactQuery, Query

    made = ArtefactQuery(model=version.ref)
    became: list[dict[str, Any]] = []
    running = registry.deployments(version.ref)
    shown = set()
    for image in registry.images(made):
        deployed = (
            []
            if image.digest in shown
            else [each for each in running if each.image == image.digest]
        )
        shown.add(image.digest)
        became.append(
            {
                "kind": "image",
                "name": image.reference,
                "how": ", ".join(image.platforms),
                "became": [_deployment(each) for each in deployed],
            }
        )
    became += [_deployment(each) for each in running if each.image not in shown]
    became += [
        {
            "kind": "package",
            "name": graph.digest,
            "how": f"for {graph.board}, {graph.cycles:,} cycles",
            "became": [],
        }
        for graph in registry.graphs(made)
    ]
    became += [
        _below(registry, child)
        for child in registry.models(Query(uses=version.ref))
        if child.parent == version.ref
    ]
    return _model(version, became)


def _model(version: "ModelVersion", became: list[dict[str, Any]]) -> dict[str, Any]:
    recipe = version.properties.get("quantization.recipe")
    how = "" if version.parent is None else f"quantized: {recipe}" if recipe else "made from it"
    return {"kind": "model", "name": str(version.ref), "how": how, "became": became}


def _deployment(record: Any) -> dict[str, Any]:
    until = f"until {record.ended:%Y-%m-%d}" if record.ended else "now"
    return {
        "kind": "deployment",
        "name": record.name,
        "how": f"on {record.hub} since {record.seen:%Y-%m-%d}, {until}",
        "became": [],
    }


def lines(tree: dict[str, Any], before: str = "", under: str = "") -> Iterator[str]:
    """The tree as lines of text."""
    kind = "" if tree["kind"] == "model" else f"{tree['kind']} "
    name = tree["name"][:19] if tree["kind"] == "package" else tree["name"]
    mark = "  <-" if tree.get("here") else ""
    how = f"  {tree['how']}" if tree["how"] else ""
    yield f"{before}{kind}{name}{how}{mark}"
    for number, child in enumerate(tree["became"]):
        last = number == len(tree["became"]) - 1
        yield from lines(
            child, f"{under}{'└─' if last else '├─'} ", f"{under}{'   ' if last else '│  '}"
        )
