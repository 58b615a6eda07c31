"""Automatic configurations: which identities they target, and what they make of desired properties.

The rules, as the real service documents them:

- A configuration holds for the devices (or modules) its target condition finds, all the time: a
  changed tag moves a device from one to another.
- Edge: of the base deployments (those that set `properties.desired` as a whole) that target a
  device, the one with the highest priority holds; the newest of equals. Layered ones (with keys
  like `properties.desired.modules.name`) of a higher priority are laid over it in rising order.
- Devices and modules: each configuration sets the paths it names; where two name the same path the
  higher priority wins. What an ended configuration had set is taken away again.

Modules that a deployment names get an identity at once when they have none, managed by `IotEdge`,
so that their twins can hold what the deployment says.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from edgekit_sim.iothub import query
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.identities import Identity, check_id
from edgekit_sim.iothub.registry import Registry, check_etag
from edgekit_sim.iothub.store import Store
from edgekit_sim.iothub.twins import (
    PROPERTIES_LIMIT,
    Json,
    check_section,
    check_size,
    new_etag,
    set_path,
    timestamp,
)

CONFIGURATIONS_LIMIT = 100
MODULES_LIMIT = 50
DESIRED = "properties.desired"
KINDS = {"modulesContent": "edge", "deviceContent": "device", "moduleContent": "module"}
SLICE_SECONDS = 0.01  # how long evaluation may keep the event loop from its other work


@dataclass
class Configuration:
    """One configuration and its compiled target condition.

    Attributes:
        document: what the service side sent and gets, without metric results.
        kind: `edge`, `device` or `module`.
        order: when it was created, nanoseconds: the newest of equal priorities wins.
        targets: client ids its condition finds now.
    """

    document: Json
    kind: str
    order: int
    source: str = "devices"
    targets: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.source, node = query.parse_condition(self.document["targetCondition"] or "deviceId=''")
        self.matches = query.compile_condition(node)
        wanted = "devices.modules" if self.kind == "module" else "devices"
        if self.source != wanted:
            raise HubFault(
                400,
                "ConfigurationInvalid",
                "a configuration of modules targets FROM devices.modules WHERE ..., and no other",
            )

    @property
    def id(self) -> str:
        """Its name."""
        return str(self.document["id"])

    @property
    def rank(self) -> tuple[int, int]:
        """Grows with priority; of equal priorities the newest is higher."""
        return int(self.document["priority"]), self.order

    @property
    def content(self) -> Json:
        """What it sets: per module for edge, else by path."""
        for name in KINDS:
            if self.document["content"].get(name):
                return dict(self.document["content"][name])
        return {}

    @property
    def layered(self) -> bool:
        """Whether this edge deployment is laid over a base, and is none itself."""
        return not any(DESIRED in section for section in self.content.values())


class Configurations:
    """All configurations, evaluated whenever something they may read has changed.

    Args:
        store: where they are kept.
        registry: what they target.
    """

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._all: dict[str, Configuration] = {}
        self._ended: dict[str, Configuration] = {}  # deleted, and what they set not yet gone
        self._evaluating = False
        for _, text in store.read("SELECT * FROM configurations"):
            kept = orjson.loads(text)
            self._all[kept["document"]["id"]] = Configuration(**kept)
        registry.on_change.append(self._changed)
        registry.on_removed.append(self._removed)
        for identity in [*registry.devices(), *registry.modules()]:
            for name in identity.configurations:
                if name in self._all:
                    self._all[name].targets.add(identity.client_id)

    # ---- documents

    def get(self, name: str) -> Configuration:
        """A configuration.

        Raises:
            HubFault: 404, when there is none of that name.
        """
        found = self._all.get(name)
        if found is None:
            raise HubFault(404, "ConfigurationNotFound", f"there is no configuration {name!r}")
        return found

    def all(self) -> list[Configuration]:
        """All configurations by name."""
        return [self._all[name] for name in sorted(self._all)]

    async def put(self, name: str, document: Json, if_match: str | None) -> Configuration:
        """Create a configuration, or (`if_match`) change condition, priority, labels or metrics.

        Returns when all identities have been evaluated.

        Raises:
            HubFault: 400, 404, 409 or 412 as the case is.
        """
        present = self._all.get(name)
        if if_match is None and present is not None:
            raise HubFault(409, "ConfigurationAlreadyExists", f"{name!r} exists")
        if if_match is not None:
            present = self.get(name)
            check_etag(if_match, present.document["etag"])
        elif len(self._all) >= CONFIGURATIONS_LIMIT:
            raise HubFault(
                403, "ConfigurationCountLimitExceeded", f"a hub has {CONFIGURATIONS_LIMIT} at most"
            )
        clean, kind = _read(name, document, present)
        order = present.order if present else time.time_ns()
        configuration = Configuration(clean, kind, order)
        self._all[name] = configuration
        self._save(configuration)
        await self.evaluate_all()
        return configuration

    async def delete(self, name: str, if_match: str | None) -> None:
        """Delete a configuration; what it set is replaced by the next in rank, or taken away.

        Raises:
            HubFault: 404 or 412.
        """
        configuration = self.get(name)
        check_etag(if_match, configuration.document["etag"])
        del self._all[name]
        self._store.write("DELETE FROM configurations WHERE id = ?", (name,))
        self._ended[name] = configuration
        try:
            await self.evaluate_all()
        finally:
            del self._ended[name]

    def _save(self, configuration: Configuration) -> None:
        kept = {
            "document": configuration.document,
            "kind": configuration.kind,
            "order": configuration.order,
        }
        self._store.write(
            "INSERT OR REPLACE INTO configurations VALUES (?,?)",
            (configuration.id, orjson.dumps(kept)),
        )

    def resource(self, configuration: Configuration) -> Json:
        """A configuration as the service side gets it, with its metrics counted now."""
        document = dict(configuration.document)
        system = _system_queries(configuration)
        document["systemMetrics"] = {"results": self._count(system), "queries": system}
        custom = document["metrics"]["queries"]
        document["metrics"] = {"results": self._count(custom), "queries": custom}
        return document

    def _count(self, queries: dict[str, str]) -> dict[str, int]:
        results = {}
        for name, text in queries.items():
            parsed = query.parse_query(text)
            results[name] = len(query.run(parsed, self._documents(parsed.source)))
        return results

    def _documents(self, source: str) -> Iterable[Identity]:
        return self._registry.modules() if source == "devices.modules" else self._registry.devices()

    # ---- evaluation

    def _changed(self, identity: Identity) -> None:
        if self._all and not self._evaluating:
            self._evaluate(identity)

    def _removed(self, identity: Identity) -> None:
        if self._registry.find(identity.device_id, identity.module_id) is None:
            for configuration in self._all.values():
                configuration.targets.discard(identity.client_id)

    async def evaluate_all(self) -> None:
        """Evaluate every identity, giving way to other work every few milliseconds."""
        resume_at = time.monotonic() + SLICE_SECONDS
        for identities in (self._registry.devices(), self._registry.modules()):
            for identity in identities:
                self._evaluate(identity)
                if time.monotonic() > resume_at:
                    await asyncio.sleep(0)
                    resume_at = time.monotonic() + SLICE_SECONDS

    def _evaluate(self, identity: Identity) -> None:
        """Bring one identity to what the configurations say of it now."""
        kind = "module" if identity.module_id else "device"
        targeting = []
        for configuration in self._all.values():
            if (configuration.source == "devices.modules") is not (kind == "module"):
                continue
            if configuration.kind == "edge" and not identity.edge:
                continue
            if configuration.matches(identity):
                configuration.targets.add(identity.client_id)
                targeting.append(configuration)
            else:
                configuration.targets.discard(identity.client_id)
        if not targeting and not identity.configurations:
            return
        targeting.sort(key=lambda configuration: configuration.rank)
        self._evaluating, outer = True, self._evaluating
        try:
            edge = [c for c in targeting if c.kind == "edge"]
            statuses = self._apply_edge(identity, edge) if identity.edge else {}
            if kind == "module":  # what its device's deployments say of it stays
                statuses = {
                    name: status
                    for name, status in identity.configurations.items()
                    if name in self._all and self._all[name].kind == "edge"
                }
            plain = [c for c in targeting if c.kind == kind]
            statuses.update(self._apply_paths(identity, plain))
        finally:
            self._evaluating = outer
        if statuses != identity.configurations:
            identity.configurations = statuses
            self._registry.save(identity)

    def _apply_edge(self, device: Identity, targeting: list[Configuration]) -> dict[str, str]:
        bases = [c for c in targeting if not c.layered]
        statuses = {c.id: "Targeted" for c in targeting}
        if not bases:
            if any(name in self._edge_names(device) for name in device.configurations):
                self._forget_edge(device)
            return statuses
        base = bases[-1]
        layers = [c for c in targeting if c.layered and c.rank > base.rank]
        applied = [base, *layers]
        wanted: dict[str, Json] = {}
        for configuration in applied:
            for module_id, section in configuration.content.items():
                wanted[module_id] = _lay(wanted.get(module_id, {}), section)
        set_modules(self._registry, device, wanted)
        statuses.update({c.id: "Applied" for c in applied})
        for module in self._registry.modules(device.device_id):
            names = {c.id: "Applied" for c in applied if module.module_id in c.content}
            if module.configurations != names:
                module.configurations = names
                self._registry.save(module)
        return statuses

    def _edge_names(self, device: Identity) -> set[str]:
        modules = self._registry.modules(device.device_id)
        return {name for module in modules for name in module.configurations}

    def _forget_edge(self, device: Identity) -> None:
        """No deployment holds any more: the device keeps what it runs, without its marks."""
        for module in self._registry.modules(device.device_id):
            if module.configurations:
                module.configurations = {}
                self._registry.save(module)

    def _apply_paths(self, identity: Identity, targeting: list[Configuration]) -> dict[str, str]:
        desired = identity.twin.desired.value
        kept = {c.id for c in targeting}
        for name in identity.configurations:
            ended = self._all.get(name) or self._ended.get(name)
            if name not in kept and ended is not None and ended.kind != "edge":
                for path in ended.content:
                    desired = _remove_path(desired, _steps(path))
        for configuration in targeting:
            for path, value in configuration.content.items():
                desired = set_path(desired, _steps(path), value)
        if desired is not identity.twin.desired.value:
            self._registry.replace_desired(identity, desired)
        return {c.id: "Applied" for c in targeting}


def set_modules(registry: Registry, device: Identity, wanted: dict[str, Json]) -> None:
    """Set the desired properties of a device's modules; modules that are missing are created."""
    agent = wanted.get("$edgeAgent", {})
    named = agent.get("modules")
    for module_id in named if isinstance(named, dict) else {}:
        registry.ensure_module(device.device_id, module_id)
    for module_id, desired in wanted.items():
        module = registry.ensure_module(device.device_id, module_id)
        registry.replace_desired(module, desired)


def apply_once(registry: Registry, device: Identity, content: Json) -> None:
    """Apply a configuration's content to one device, as `applyConfigurationContent` does.

    Raises:
        HubFault: 400, when the content is not valid or the device cannot take it.
    """
    checked, kind = _read_content(content)
    if kind == "edge":
        if not device.edge:
            raise HubFault(
                400, "InvalidConfigurationContent", f"{device.device_id!r} is no edge device"
            )
        sections = checked["modulesContent"]
        set_modules(registry, device, {m: _lay({}, s) for m, s in sections.items()})
        return
    if kind == "module":
        raise HubFault(400, "InvalidConfigurationContent", "moduleContent is for no device")
    desired = device.twin.desired.value
    for path, value in checked["deviceContent"].items():
        desired = set_path(desired, _steps(path), value)
    registry.replace_desired(device, desired)


def _steps(path: str) -> list[str]:
    return path.split(".")[2:]


def _lay(target: Json, section: Json) -> Json:
    """Lay a module's section over `target`: the whole, then paths from short to long."""
    for path in sorted(section, key=lambda path: path.count(".")):
        target = set_path(target, _steps(path), section[path])
    return target


def _remove_path(target: Json, path: list[str]) -> Json:
    if not path or path[0] not in target:
        return target
    rest = {key: value for key, value in target.items() if key != path[0]}
    if len(path) == 1 or not isinstance(target[path[0]], dict):
        return rest
    inner = _remove_path(target[path[0]], path[1:])
    return {**target, path[0]: inner} if inner else rest


def _read(name: str, document: Json, present: Configuration | None) -> tuple[Json, str]:
    """Check a configuration document and fill in what the service fills in."""
    check_id(name, "configuration id")
    if name != name.lower():
        raise HubFault(400, "ArgumentInvalid", f"a configuration id has lower case: {name!r}")
    if document.get("id") not in (None, name):
        raise HubFault(400, "ArgumentInvalid", "id in the body is not the one in the address")
    if present is not None:
        content, kind = present.document["content"], present.kind
    else:
        content, kind = _read_content(document.get("content"))
    priority = document.get("priority") or 0
    if isinstance(priority, bool) or not isinstance(priority, int) or priority < 0:
        raise HubFault(400, "ArgumentInvalid", "priority must be an integer of at least 0")
    metrics = document.get("metrics") or {}
    queries = metrics.get("queries") or {} if isinstance(metrics, dict) else {}
    for text in queries.values():
        query.parse_query(str(text))
    now = timestamp()
    return {
        "id": name,
        "schemaVersion": "1.0",
        "labels": document.get("labels") or {},
        "content": content,
        "targetCondition": document.get("targetCondition") or "",
        "createdTimeUtc": present.document["createdTimeUtc"] if present else now,
        "lastUpdatedTimeUtc": now,
        "priority": priority,
        "metrics": {"results": {}, "queries": queries},
        "etag": new_etag(),
    }, kind


def _read_content(content: Any) -> tuple[Json, str]:
    sent = {
        name: content[name]
        for name in KINDS
        if isinstance(content, dict) and isinstance(content.get(name), dict) and content[name]
    }
    if len(sent) != 1:
        raise HubFault(
            400, "InvalidConfigurationContent", f"content must have one of {', '.join(KINDS)}"
        )
    ((name, value),) = sent.items()
    if name != "modulesContent":
        _check_paths(value, name)
        return sent, KINDS[name]
    if len(value) > MODULES_LIMIT + 2:
        raise HubFault(
            400, "InvalidConfigurationContent", f"a deployment has {MODULES_LIMIT} modules at most"
        )
    for module_id, section in value.items():
        check_id(module_id, "module id")
        if not isinstance(section, dict):
            raise HubFault(400, "InvalidConfigurationContent", f"{module_id} must be an object")
        _check_paths(section, module_id)
    return sent, KINDS[name]


def _check_paths(section: Json, where: str) -> None:
    for path, value in section.items():
        if path != DESIRED and not path.startswith(DESIRED + "."):
            raise HubFault(
                400,
                "InvalidConfigurationContent",
                f"{where} has the key {path[:80]!r}; keys are {DESIRED} or begin with {DESIRED}.",
            )
        whole = value if path == DESIRED else set_path({}, _steps(path), value)
        check_section(whole, f"{where}: {path}")
        check_size(whole, f"{where}: {path}", PROPERTIES_LIMIT)


_APPLIED_AGENT = (
    "SELECT deviceId FROM devices.modules WHERE moduleId = '$edgeAgent'"
    " AND configurations.[[NAME]].status = 'Applied'"
    " AND properties.desired.$version = properties.reported.lastDesiredVersion"
)
_ON_DEVICES = {
    "targetedCount": "SELECT deviceId FROM devices WHERE IS_DEFINED(configurations.[[NAME]])",
    "appliedCount": "SELECT deviceId FROM devices WHERE configurations.[[NAME]].status = 'Applied'",
}
# what the service counts by itself, with NAME for the configuration's name
SYSTEM_QUERIES = {
    "edge": {
        **_ON_DEVICES,
        "reportedSuccessfulCount": _APPLIED_AGENT
        + " AND properties.reported.lastDesiredStatus.code = 200",
        "reportedFailedCount": _APPLIED_AGENT
        + " AND properties.reported.lastDesiredStatus.code != 200",
    },
    "device": _ON_DEVICES,
    "module": {
        name: text.replace("FROM devices ", "FROM devices.modules ")
        for name, text in _ON_DEVICES.items()
    },
}


def _system_queries(configuration: Configuration) -> dict[str, str]:
    queries = SYSTEM_QUERIES[configuration.kind]
    return {name: text.replace("NAME", configuration.id) for name, text in queries.items()}
