"""What the hub or the device's runtime would refuse, or take in silence and do otherwise."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from edgekit.errors import ManifestError
from edgekit.manifest import limits
from edgekit.manifest.content import modules_content
from edgekit.manifest.differences import readable
from edgekit.manifest.layers import ROOT, Layer, merge
from edgekit.manifest.options import join_options, lost_chunks
from edgekit.manifest.routes import parse_route
from edgekit.manifest.secrets import secrets
from edgekit.manifest.specification import (
    MAX_STARTUP_ORDER,
    PULL_POLICIES,
    RESTART_POLICIES,
    STATUSES,
)

AGENT_SCHEMAS = ("1.0", "1.1")
HUB_SCHEMAS = ("1.0", "1.1", "1.2", "1.3")
_WEAK_POLICIES = {
    "on-failure": "the runtime follows it poorly; use always or never",
    "on-unhealthy": "the runtime does not implement it; use always or never",
}


class Severity(StrEnum):
    """How bad a finding is: an error stops an apply, a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One thing wrong with a manifest.

    Attributes:
        severity: error or warning.
        path: where in the manifest, with dots.
        message: what is wrong.
    """

    severity: Severity
    path: str
    message: str


def check(manifest: Mapping[str, Any]) -> list[Finding]:
    """Everything wrong with a manifest, whole or layered, errors first.

    Raises:
        ManifestError: the data is no manifest at all.
    """
    contents = modules_content(manifest)
    findings = [
        *_sections(contents),
        *_sizes(contents),
        *_secrets(contents),
        *_agent(contents.get("$edgeAgent", {})),
        *_hub(contents),
    ]
    return sorted(findings, key=lambda finding: (finding.severity, finding.path))


def _error(path: str, message: str) -> Finding:
    return Finding(Severity.ERROR, path, message)


def _warning(path: str, message: str) -> Finding:
    return Finding(Severity.WARNING, path, message)


def _sections(contents: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    for module, sections in contents.items():
        for name, value in sections.items():
            path = f"{module}.{name}"
            if name != ROOT and not name.startswith(ROOT + "."):
                yield _error(path, f"a section is named {ROOT} or {ROOT}.PATH")
            elif name == ROOT and not isinstance(value, Mapping):
                yield _error(path, "desired properties are an object")
        if ROOT in sections and len(sections) > 1:
            yield _error(module, f"{ROOT} and parts of it cannot stand side by side")


def _sizes(contents: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    # what the layer adds, as it will stand in the twin; a layer over an empty whole deployment
    bottom = Layer("", -1, "", {"modulesContent": {"$edgeAgent": {ROOT: {}}}})
    usable = {
        module: {
            name: value
            for name, value in sections.items()
            if name.startswith(ROOT) and (name != ROOT or isinstance(value, Mapping))
        }
        for module, sections in contents.items()
    }
    for module, desired in merge([bottom, Layer("", 0, "", {"modulesContent": usable})]).items():
        for path, message in limits.violations(desired):
            yield _error(".".join((module, *path)), message)
    modules = _modules(contents.get("$edgeAgent", {}))
    if len(modules) > limits.MODULES:
        yield _error("$edgeAgent", f"{len(modules)} modules, the hub takes {limits.MODULES}")


def _secrets(contents: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    for path, reason in secrets(readable(contents)):
        yield _warning(".".join(path), f"{reason}; whoever may read the hub can read it")


def _modules(agent: Mapping[str, Any]) -> dict[str, Any]:
    """The user's modules in a whole deployment and in a layer."""
    prefix = ROOT + ".modules."
    found = {
        name.removeprefix(prefix): value for name, value in agent.items() if name.startswith(prefix)
    }
    for section in (_mapping(agent.get(ROOT)).get("modules"), agent.get(ROOT + ".modules")):
        found.update(_mapping(section))
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _agent(agent: Mapping[str, Any]) -> Iterator[Finding]:
    whole = _mapping(agent.get(ROOT))
    if ROOT in agent:
        schema = whole.get("schemaVersion")
        if schema not in AGENT_SCHEMAS:
            known = ", ".join(AGENT_SCHEMAS)
            yield _error("$edgeAgent.schemaVersion", f"{schema!r} is not known ({known})")
        system = _mapping(whole.get("systemModules"))
        for name in ("edgeAgent", "edgeHub"):
            path = f"$edgeAgent.systemModules.{name}"
            if not isinstance(system.get(name), Mapping):
                yield _error(path, "is missing")
                continue
            yield from _module(path, system[name], agent_itself=name == "edgeAgent")
    for name, module in _modules(agent).items():
        path = f"$edgeAgent.modules.{name}"
        if not isinstance(module, Mapping):
            yield _error(path, "a module is an object")
            continue
        yield from _module(path, module, agent_itself=False)
    if whole.get("schemaVersion") == "1.0" and any(
        "startupOrder" in _mapping(module) for module in _modules(agent).values()
    ):
        yield _warning("$edgeAgent.schemaVersion", "startupOrder is ignored before 1.1")


def _module(path: str, module: Mapping[str, Any], *, agent_itself: bool) -> Iterator[Finding]:
    settings = _mapping(module.get("settings"))
    if module.get("type") != "docker":
        yield _error(f"{path}.type", f"{module.get('type')!r} is not docker")
    image = settings.get("image")
    if not isinstance(image, str) or not image.strip():
        yield _error(f"{path}.settings.image", "is missing")
    elif "@sha256:" not in image:
        yield _warning(f"{path}.settings.image", f"{image} is a tag, which can move; use a digest")
    try:
        join_options(settings)
    except ManifestError as error:
        yield _error(f"{path}.settings", str(error))
    for name in lost_chunks(settings):
        yield _error(f"{path}.settings.{name}", "stands behind a gap: the runtime ignores it")
    yield from _choice(path, module, "imagePullPolicy", PULL_POLICIES, required=False)
    for name, entry in _mapping(module.get("env")).items():
        if not isinstance(_mapping(entry).get("value"), str):
            yield _error(f"{path}.env.{name}", 'is not {"value": "text"}')
    if agent_itself:
        if "startupOrder" in module:
            yield _error(f"{path}.startupOrder", "edgeAgent takes none")
        return
    yield from _choice(path, module, "status", STATUSES)
    yield from _choice(path, module, "restartPolicy", RESTART_POLICIES)
    weakness = _WEAK_POLICIES.get(str(module.get("restartPolicy")))
    if weakness:
        yield _warning(f"{path}.restartPolicy", f"{module['restartPolicy']}: {weakness}")
    order = module.get("startupOrder", 0)
    if isinstance(order, bool) or not isinstance(order, int) or not 0 <= order <= MAX_STARTUP_ORDER:
        yield _error(f"{path}.startupOrder", f"{order!r} is not in 0..{MAX_STARTUP_ORDER}")


def _choice(
    path: str, module: Mapping[str, Any], name: str, known: tuple[str, ...], required: bool = True
) -> Iterator[Finding]:
    if module.get(name) in known or (not required and name not in module):
        return
    yield _error(f"{path}.{name}", f"{module.get(name)!r} is none of {', '.join(known)}")


def _hub(contents: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    hub = contents.get("$edgeHub", {})
    whole = _mapping(hub.get(ROOT))
    agent_is_whole = ROOT in contents.get("$edgeAgent", {})
    if agent_is_whole and ROOT not in hub:
        yield _error("$edgeHub", "is missing: edgeHub would start without routes")
    if ROOT in hub:
        schema = whole.get("schemaVersion")
        if schema not in HUB_SCHEMAS:
            known = ", ".join(HUB_SCHEMAS)
            yield _error("$edgeHub.schemaVersion", f"{schema!r} is not known ({known})")
    prefix = ROOT + ".routes."
    routes = {
        name.removeprefix(prefix): value for name, value in hub.items() if name.startswith(prefix)
    }
    routes.update(_mapping(whole.get("routes")))
    routes.update(_mapping(hub.get(ROOT + ".routes")))
    modules = set(_modules(contents.get("$edgeAgent", {}))) if agent_is_whole else None
    for name, route in routes.items():
        yield from _route(f"$edgeHub.routes.{name}", route, modules)
    storage = _mapping(whole.get("storeAndForwardConfiguration"))
    if not isinstance(storage.get("timeToLiveSecs", 0), int):
        yield _error("$edgeHub.storeAndForwardConfiguration.timeToLiveSecs", "is no integer")


def _route(path: str, route: Any, modules: set[str] | None) -> Iterator[Finding]:
    if isinstance(route, Mapping):
        priority = route.get("priority", 0)
        if not isinstance(priority, int) or not 0 <= priority <= 9:
            yield _error(f"{path}.priority", f"{priority!r} is not in 0..9")
        seconds = route.get("timeToLiveSecs", 0)
        if not isinstance(seconds, int) or seconds < 0:
            yield _error(f"{path}.timeToLiveSecs", f"{seconds!r} is no number of seconds")
        route = route.get("route")
    if not isinstance(route, str):
        yield _error(path, "a route is text or an object with route, priority, timeToLiveSecs")
        return
    try:
        parsed = parse_route(route)
    except ManifestError as error:
        yield _error(path, str(error))
        return
    for module in (parsed.source_module, parsed.sink_module):
        if modules is not None and module is not None and module not in modules:
            yield _warning(path, f"names module {module}, which this manifest does not have")
