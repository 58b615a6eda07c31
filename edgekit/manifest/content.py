"""A deployment in the shape the hub stores: `{"modulesContent": {...}}`."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from edgekit.errors import ManifestError
from edgekit.manifest.options import split_options
from edgekit.manifest.specification import Deployment, Module, Route

Content = dict[str, Any]

AGENT_SCHEMA = "1.1"  # 1.1 brought startupOrder
HUB_SCHEMA = "1.1"  # 1.1 brought a route's priority and time to live


def build(deployment: Deployment) -> Content:
    """The manifest of a whole (not layered) deployment.

    Returns:
        `{"modulesContent": {"$edgeAgent": ..., "$edgeHub": ..., module: ...}}`, JSON data in an
        order that depends on the deployment alone.
    """
    runtime: Content = {
        "type": "docker",
        "settings": {"minDockerVersion": deployment.min_docker_version},
    }
    if deployment.logging_options:
        runtime["settings"]["loggingOptions"] = deployment.logging_options
    modules = sorted(deployment.modules, key=lambda module: module.name)
    content: Content = {
        "$edgeAgent": {
            "properties.desired": {
                "schemaVersion": AGENT_SCHEMA,
                "runtime": runtime,
                "systemModules": {
                    "edgeAgent": _system(deployment.agent),
                    "edgeHub": _supervised(deployment.hub),
                },
                "modules": {
                    module.name: {"version": "1.0", **_supervised(module)} for module in modules
                },
            }
        },
        "$edgeHub": {
            "properties.desired": {
                "schemaVersion": HUB_SCHEMA,
                "routes": {
                    route.name: _route(route)
                    for route in sorted(deployment.routes, key=lambda route: route.name)
                },
                "storeAndForwardConfiguration": {"timeToLiveSecs": deployment.time_to_live},
            }
        },
    }
    for module in modules:
        if module.desired is not None:
            content[module.name] = {"properties.desired": dict(module.desired)}
    return {"modulesContent": content}


def _system(module: Module) -> Content:
    entry: Content = {
        "type": "docker",
        "settings": {"image": module.image, **split_options(module.create_options)},
    }
    if module.pull_policy:
        entry["imagePullPolicy"] = module.pull_policy
    if module.env:
        entry["env"] = {name: {"value": value} for name, value in sorted(module.env.items())}
    return entry


def _supervised(module: Module) -> Content:
    entry = {
        **_system(module),
        "status": module.status,
        "restartPolicy": module.restart_policy,
    }
    if module.startup_order is not None:
        entry["startupOrder"] = module.startup_order
    return entry


def _route(route: Route) -> str | Content:
    if route.priority is None and route.time_to_live is None:
        return route.text
    entry: Content = {"route": route.text}
    if route.priority is not None:
        entry["priority"] = route.priority
    if route.time_to_live is not None:
        entry["timeToLiveSecs"] = route.time_to_live
    return entry


def modules_content(manifest: Any) -> dict[str, dict[str, Any]]:
    """The part by module of a manifest, whether it stands alone or inside a configuration.

    Raises:
        ManifestError: the data is no manifest.
    """
    found = manifest
    for wrapper in ("content", "modulesContent"):
        if isinstance(found, Mapping) and wrapper in found:
            found = found[wrapper]
    if found is manifest and not (isinstance(found, Mapping) and "$edgeAgent" in found):
        raise ManifestError(
            "this is no deployment manifest: it has no modulesContent",
            "make one with: edgekit manifest build fleet.yaml",
        )
    if not isinstance(found, Mapping):
        raise ManifestError(f"modulesContent is a {type(found).__name__}, not an object")
    for module, sections in found.items():
        if not isinstance(sections, Mapping):
            raise ManifestError(f"modulesContent.{module} is not an object")
    return {module: dict(sections) for module, sections in found.items()}


def content_digest(content: Any) -> str:
    """`sha256:` of the content's canonical JSON: sorted keys, no white space, ASCII."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
