"""What an apply would do, worked out beforehand and bound to the state of the hub it was made on.

A revision of a group is one IoT Hub configuration, `edgekit-FLEET-GROUP-rN`. Its content never
changes; a new content is a new revision of a higher priority, and the ones before stay where they
are, so that going back needs no new content.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from edgekit.errors import FleetError
from edgekit.fleet.file import Fleet, Group
from edgekit.fleet.hub import Configuration, HubPort
from edgekit.manifest import Change, Layer, content_digest, diff, merge, modules_content, readable
from edgekit.manifest.conditions import EVERY_DEVICE

Action = Literal["none", "create", "update"]
Desired = Mapping[str, Any]

REVISIONS = 1000  # the span of priorities that one group's priority stands for
TOOL = "edgekit"
FORMAT = 1  # of a plan as JSON


@dataclass(frozen=True)
class Overlap:
    """A deployment that targets some devices of a group, but not all.

    Attributes:
        configuration: its id.
        devices: how many devices of the group it targets.
    """

    configuration: str
    devices: int


@dataclass(frozen=True)
class GroupPlan:
    """What happens to one group.

    Attributes:
        group: its name.
        action: `none`, `create` a revision, or `update` the conditions of those there are.
        revision: the number that will be in force.
        devices: IoT Edge devices that its condition matches now.
        create: the configuration to make, or None.
        updates: configurations to change, each with the ETag it must still have.
        kept: revisions before the one in force that stay on the hub.
        before: desired properties by module that the group's devices get now, all layers merged.
        after: the same when the plan is carried out.
        overlaps: deployments that reach only a part of the group; not in before and after.
    """

    group: str
    action: Action
    revision: int
    devices: int
    create: Configuration | None
    updates: tuple[Configuration, ...]
    kept: int
    before: Desired
    after: Desired
    overlaps: tuple[Overlap, ...] = ()

    @property
    def changes(self) -> list[Change]:
        """What becomes different on the devices, createOptions joined and parsed."""
        return diff(readable(self.before), readable(self.after))

    @property
    def calls(self) -> int:
        """Hub calls that carrying this out takes."""
        return len(self.updates) + (self.create is not None)


@dataclass(frozen=True)
class Plan:
    """What an apply would do, and the state of the hub it holds for.

    Attributes:
        fleet: the fleet's name.
        hub: the hub's host name.
        groups: in the order of the fleet file.
        etags: ETag of every deployment on the hub by id, as the plan saw them.
    """

    fleet: str
    hub: str
    groups: tuple[GroupPlan, ...]
    etags: Mapping[str, str]

    @property
    def changes_anything(self) -> bool:
        """Whether applying it would call the hub to change something."""
        return any(group.action != "none" for group in self.groups)

    @property
    def calls(self) -> int:
        """Hub calls of the apply: one to see that nothing changed, then one for each change."""
        return 1 + sum(group.calls for group in self.groups)

    @property
    def digest(self) -> str:
        """`sha256:` over all of the plan."""
        return content_digest(self.data())

    def data(self) -> dict[str, Any]:
        """The plan as JSON data."""
        return {"edgekit_plan": FORMAT, **asdict(self)}


def configuration_name(fleet: str, group: str, revision: int) -> str:
    """The id of a revision on the hub."""
    return f"{TOOL}-{fleet}-{group}-r{revision}"


def revision_of(configuration: Configuration) -> int:
    """The revision that a configuration of ours carries in its labels."""
    text = configuration.labels.get("revision", "")
    if not text.isdecimal():
        raise FleetError(
            f"configuration {configuration.id} carries no revision number in its labels",
            "somebody edited it by hand; put the label back or delete the configuration",
        )
    return int(text)


def revisions(
    fleet: str, group: str, configurations: Iterable[Configuration]
) -> list[Configuration]:
    """The revisions of a group on the hub, oldest first."""
    ours = {"tool": TOOL, "fleet": fleet, "group": group}
    found = [item for item in configurations if ours.items() <= item.labels.items()]
    return sorted(found, key=revision_of)


def plan(fleet: Fleet, hub: HubPort) -> Plan:
    """Work out what has to change on `hub` so that it carries `fleet`; changes nothing.

    Takes one call for the configurations, one query for each group's devices, and one for each
    other target condition that may overlap with a group.

    Raises:
        HubError: the hub refused or does not answer.
        FleetError: a name is taken by something that is not ours.
    """
    present = [item for item in hub.configurations() if item.content.get("modulesContent")]
    steps = [_step(fleet.name, group, present) for group in fleet.groups]
    future = {item.id: item for item in present}
    for order, step in enumerate(steps):
        future.update((item.id, item) for item in step.updates)
        if step.create:
            # newer than all there are, in the order in which they will be made
            future[step.create.id] = replace(step.create, created=f"9999-{order:04d}")
    census = _Census(hub)
    return Plan(
        fleet=fleet.name,
        hub=hub.name,
        groups=tuple(
            _group_plan(group, step, present, list(future.values()), census)
            for group, step in zip(fleet.groups, steps, strict=True)
        ),
        etags={item.id: item.etag for item in sorted(present, key=lambda item: item.id)},
    )


@dataclass(frozen=True)
class _Step:
    action: Action
    revision: int
    create: Configuration | None
    updates: tuple[Configuration, ...]
    kept: int


def _step(fleet: str, group: Group, present: Sequence[Configuration]) -> _Step:
    known = revisions(fleet, group.name, present)
    digest = content_digest(group.manifest)
    updates = tuple(
        wanted
        for item in known
        if (wanted := _retargeted(item, group))
        and (wanted.condition, wanted.priority) != (item.condition, item.priority)
    )
    newest = revision_of(known[-1]) if known else 0
    if known and known[-1].labels.get("digest") == digest:
        action: Action = "update" if updates else "none"
        return _Step(action, newest, None, updates, len(known) - 1)
    number = newest + 1
    if number >= REVISIONS:
        raise FleetError(
            f"group {group.name} has had {newest} revisions, all it has room for",
            "rename the group and delete its old configurations on the hub",
        )
    name = configuration_name(fleet, group.name, number)
    if any(item.id == name for item in present):
        raise FleetError(
            f"configuration {name} on the hub is not revision {number} of group {group.name}",
            "rename the fleet or the group, or delete that configuration",
        )
    created = Configuration(
        id=name,
        content=group.manifest,
        condition=group.condition,
        priority=_priority(group, number),
        labels={
            "tool": TOOL,
            "fleet": fleet,
            "group": group.name,
            "revision": str(number),
            "digest": digest,
        },
        metrics={"running": running_query(name, group.manifest)},
    )
    return _Step("create", number, created, updates, len(known))


def _retargeted(item: Configuration, group: Group) -> Configuration:
    """A kept revision with the group's condition: else devices that left would fall back to it."""
    priority = _priority(group, revision_of(item))
    return replace(item, condition=group.condition, priority=priority)


def _priority(group: Group, revision: int) -> int:
    return group.priority * REVISIONS + revision


def running_query(name: str, manifest: Mapping[str, Any]) -> str:
    """The metric that counts devices on which every module of the manifest runs."""
    modules = modules_content(manifest)["$edgeAgent"]["properties.desired"]["modules"]
    conditions = [
        "moduleId = '$edgeAgent'",
        f"configurations.[[{name}]].status = 'Applied'",
        *(
            f"properties.reported.modules.[[{module}]].runtimeStatus = 'running'"
            for module, settings in sorted(modules.items())
            if settings["status"] == "running"
        ),
    ]
    return f"SELECT deviceId FROM devices.modules WHERE {' AND '.join(conditions)}"  # noqa: S608


class _Census:
    """Counts devices on the hub, asking for each condition once."""

    def __init__(self, hub: HubPort) -> None:
        self._hub = hub
        self._counts: dict[frozenset[str], int] = {}

    def devices(self, *conditions: str) -> int:
        """IoT Edge devices that match all the target conditions."""
        wanted = frozenset(text.strip() for text in conditions) - {EVERY_DEVICE}
        if "" in wanted:
            return 0  # an empty condition targets nothing
        if wanted not in self._counts:
            where = " AND ".join(
                ["capabilities.iotEdge = true", *(f"({text})" for text in sorted(wanted))]
            )
            rows = self._hub.query(f"SELECT COUNT() AS n FROM devices WHERE {where}")  # noqa: S608
            self._counts[wanted] = int(rows[0].get("n", 0)) if rows else 0
        return self._counts[wanted]


def _group_plan(
    group: Group,
    step: _Step,
    present: Sequence[Configuration],
    future: Sequence[Configuration],
    census: _Census,
) -> GroupPlan:
    devices = census.devices(group.condition)
    before, _ = _effective(group, devices, present, census)
    after, overlaps = _effective(group, devices, future, census)
    return GroupPlan(
        group=group.name,
        action=step.action,
        revision=step.revision,
        devices=devices,
        create=step.create,
        updates=step.updates,
        kept=step.kept,
        before=before,
        after=after,
        overlaps=overlaps,
    )


def _effective(
    group: Group, devices: int, configurations: Sequence[Configuration], census: _Census
) -> tuple[Desired, tuple[Overlap, ...]]:
    layers, overlaps = [], []
    for item in configurations:
        if item.condition == group.condition or item.condition.strip() == EVERY_DEVICE:
            reached = devices
        elif not devices:
            continue
        else:
            reached = census.devices(group.condition, item.condition)
            if not reached:
                continue
        if reached == devices:
            layers.append(Layer(item.id, item.priority, item.created, item.content))
        else:
            overlaps.append(Overlap(item.id, reached))
    return merge(layers), tuple(overlaps)
