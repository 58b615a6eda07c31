"""Models, images and graphs, with counted versions and tags; blobs by sha256."""

from edgekit.registry.records import GraphRecord, ImageRecord, ModelRef, ModelVersion, TensorSpec
from edgekit.registry.registry import Registry
from edgekit.registry.versions import Query

__all__ = [
    "GraphRecord",
    "ImageRecord",
    "ModelRef",
    "ModelVersion",
    "Query",
    "Registry",
    "TensorSpec",
]
