"""Deployment manifests: build, check, merge, diff.

A manifest is what IoT Hub calls the content of a deployment: for each module a set of desired
properties, with what runs on the device under `$edgeAgent` and how messages flow under `$edgeHub`.
"""

from edgekit.manifest.checks import Finding, Severity, check
from edgekit.manifest.content import build, content_digest, modules_content
from edgekit.manifest.differences import Change, apply_changes, diff, readable
from edgekit.manifest.layers import Layer, is_layered, merge
from edgekit.manifest.options import join_options, split_options
from edgekit.manifest.specification import Deployment, Module, Route

__all__ = [
    "Change",
    "Deployment",
    "Finding",
    "Layer",
    "Module",
    "Route",
    "Severity",
    "apply_changes",
    "build",
    "check",
    "content_digest",
    "diff",
    "is_layered",
    "join_options",
    "merge",
    "modules_content",
    "readable",
    "split_options",
]
