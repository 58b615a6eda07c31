"""What an image consists of, as plain data."""

from typing import Any

from edgekit.oci.blobs import Blobs
from edgekit.oci.descriptor import INDEXES, Descriptor, parse_json
from edgekit.oci.image import Manifest, manifests_of


def describe(blobs: Blobs, root: Descriptor) -> dict[str, Any]:
    """The platforms of an image with their layers: digest, size, and who brought each.

    Args:
        blobs: hold the documents; the layers themselves are not needed.
        root: index or manifest.

    Raises:
        Corrupt: a document is missing or does not read.
    """
    platforms = []
    annotations: dict[str, str] = {}
    for platform, manifest in manifests_of(blobs, root).items():
        annotations = annotations or dict(manifest.annotations)
        platforms.append(
            {
                "platform": str(platform),
                "digest": manifest.descriptor.digest,
                "layers": _layers(blobs, manifest),
                "config": _config(blobs, manifest).get("config") or {},
            }
        )
    if root.media_type in INDEXES:
        document = parse_json(blobs.read(root), f"index {root.digest}")
        annotations = dict(document.get("annotations") or annotations)
    return {"digest": root.digest, "annotations": annotations, "platforms": platforms}


def _config(blobs: Blobs, manifest: Manifest) -> dict[str, Any]:
    return parse_json(blobs.read(manifest.config), f"configuration {manifest.config.digest}")


def _layers(blobs: Blobs, manifest: Manifest) -> list[dict[str, Any]]:
    history = _config(blobs, manifest).get("history")
    steps = history if isinstance(history, list) else []
    makers = [
        str(step.get("created_by", ""))
        for step in steps
        if isinstance(step, dict) and not step.get("empty_layer")
    ]
    makers += [""] * (len(manifest.layers) - len(makers))
    return [
        {
            "by": maker.removeprefix("edgekit: ")[:60],
            "digest": layer.digest,
            "size": layer.size,
            "media_type": layer.media_type,
        }
        for maker, layer in zip(makers, manifest.layers, strict=False)
    ]


def changed_layers(old: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    """What whoever has `old` must fetch for `new`, and what falls away; see `describe`."""
    changes: list[dict[str, Any]] = []
    before = {entry["platform"]: entry["layers"] for entry in old["platforms"]}
    for entry in new["platforms"]:
        had = before.get(entry["platform"], [])
        digests = {layer["digest"] for layer in had}
        makers = {layer["by"] for layer in had}
        changes += [
            {
                "platform": entry["platform"],
                "by": layer["by"],
                "change": "changed" if layer["by"] in makers else "added",
                "size": layer["size"],
            }
            for layer in entry["layers"]
            if layer["digest"] not in digests
        ]
        kept = {layer["by"] for layer in entry["layers"]}
        changes += [
            {"platform": entry["platform"], "by": layer["by"], "change": "removed", "size": 0}
            for layer in had
            if layer["by"] not in kept
        ]
    return changes
