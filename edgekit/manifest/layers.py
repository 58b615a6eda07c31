"""What a device gets when several deployments target it.

The rules are the hub's: of the whole deployments (those that set `properties.desired` of
`$edgeAgent`) the one of highest priority counts, ties go to the newest; layered deployments of a
higher rank than that one are laid over it in ascending rank, each replacing what stands at the
paths it names; layers of a lower rank are ignored.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from edgekit.manifest.content import modules_content

ROOT = "properties.desired"
Desired = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Layer:
    """One deployment that targets a device.

    Attributes:
        name: the configuration's id.
        priority: higher wins.
        created: time of creation in ISO 8601 (UTC); the newest wins among equals.
        manifest: its content.
    """

    name: str
    priority: int
    created: str
    manifest: Mapping[str, Any]

    @property
    def rank(self) -> tuple[int, str, str]:
        """Ascending order in which layers are laid over each other."""
        return (self.priority, self.created, self.name)


def is_layered(manifest: Mapping[str, Any]) -> bool:
    """Whether the manifest is a layer over another one rather than a whole deployment."""
    return ROOT not in modules_content(manifest).get("$edgeAgent", {})


def effective_layers(layers: Iterable[Layer]) -> list[Layer]:
    """The layers that count, the whole deployment first; empty when there is no whole one."""
    ranked = sorted(layers, key=lambda layer: layer.rank)
    whole = [position for position, layer in enumerate(ranked) if not is_layered(layer.manifest)]
    return ranked[whole[-1] :] if whole else []


def merge(layers: Iterable[Layer]) -> Desired:
    """Desired properties by module that a device gets from these deployments together.

    Returns:
        `{"$edgeAgent": {"modules": ...}, "$edgeHub": ..., module: ...}`; empty when no whole
        deployment is among the layers.
    """
    merged: Desired = {}
    for layer in effective_layers(layers):
        for module, sections in modules_content(layer.manifest).items():
            for path in sorted(sections, key=lambda name: name.count(".")):
                _place(merged.setdefault(module, {}), path, copy.deepcopy(sections[path]))
    return merged


def _place(desired: dict[str, Any], path: str, value: Any) -> None:
    if path == ROOT:
        desired.clear()
        desired.update(value)
        return
    *parents, last = path.removeprefix(ROOT + ".").split(".")
    for name in parents:
        child = desired.get(name)
        if not isinstance(child, dict):
            child = desired[name] = {}
        desired = child
    desired[last] = value
