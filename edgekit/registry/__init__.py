"""Models, images and graphs, with counted versions and tags; blobs by sha256."""

from edgekit.registry.garbage import Collected
from edgekit.registry.records import (
    GraphRecord,
    ImageRecord,
    ModelRef,
    ModelVersion,
    ProfileRecord,
    TensorSpec,
)
from edgekit.registry.registry import Registry
from edgekit.registry.versions import Query

__all__ = [
    "Collected",
    "GraphRecord",
    "ImageRecord",
    "ModelRef",
    "ModelVersion",
    "ProfileRecord",
    "Query",
    "Registry",
    "TensorSpec",
]
