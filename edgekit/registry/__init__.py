"""Models, images and graphs, with counted versions and tags; blobs by sha256."""

from edgekit.registry.artefacts import ArtefactQuery
from edgekit.registry.garbage import Collected
from edgekit.registry.records import (
    Carried,
    DeploymentRecord,
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
    "ArtefactQuery",
    "Carried",
    "Collected",
    "DeploymentRecord",
    "GraphRecord",
    "ImageRecord",
    "ModelRef",
    "ModelVersion",
    "ProfileRecord",
    "Query",
    "Registry",
    "TensorSpec",
]
