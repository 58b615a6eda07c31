"""OCI images and registries: layers, indexes, layouts, push and pull. Knows nothing of models."""

from edgekit.oci.blobs import Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.descriptor import Descriptor, Platform
from edgekit.oci.image import Manifest, NamedLayer, Settings, put_image, put_index
from edgekit.oci.layer import Entry, Layer, write_layer
from edgekit.oci.layout import Layout, write_docker_archive
from edgekit.oci.reference import Reference
from edgekit.oci.transfer import Image, Pushed, pull, push
from edgekit.oci.unpack import unpack

__all__ = [
    "Blobs",
    "Descriptor",
    "Entry",
    "Image",
    "Layer",
    "Layout",
    "Manifest",
    "NamedLayer",
    "Platform",
    "Pushed",
    "Reference",
    "RegistryClient",
    "Settings",
    "pull",
    "push",
    "put_image",
    "put_index",
    "unpack",
    "write_docker_archive",
    "write_layer",
]
