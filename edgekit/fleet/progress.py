"""How far a fleet's newest revisions have come, from the hub's own counts."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgekit.errors import FleetError
from edgekit.fleet.hub import HubPort
from edgekit.fleet.planning import revision_of, revisions


@dataclass(frozen=True)
class GroupStatus:
    """The newest revision of a group; a count the hub has not made yet is None.

    Attributes:
        group: its name.
        configuration: the id on the hub, "" when nothing was applied yet.
        revision: its number, 0 when nothing was applied yet.
        targeted: devices that match the condition.
        applied: devices to which the hub gave it; a deployment of higher rank lowers this.
        succeeded: devices that report having carried it out (status 200).
        failed: devices that report an error.
        running: devices on which all its modules run.
    """

    group: str
    configuration: str
    revision: int
    targeted: int | None = None
    applied: int | None = None
    succeeded: int | None = None
    failed: int | None = None
    running: int | None = None

    @property
    def done(self) -> bool:
        """Whether there are devices and every one reports success."""
        return bool(self.targeted) and self.succeeded == self.targeted and not self.failed


@dataclass(frozen=True)
class FleetStatus:
    """All groups of a fleet at one moment."""

    fleet: str
    hub: str
    groups: tuple[GroupStatus, ...]

    @property
    def done(self) -> bool:
        """Whether every group is done."""
        return all(group.done for group in self.groups)


def status(fleet: str, groups: Sequence[str], hub: HubPort) -> FleetStatus:
    """Where each group's newest revision stands; one hub call.

    The counts are the hub's metrics, which a real hub works out anew every few minutes.
    """
    present = hub.configurations()
    found = []
    for group in groups:
        known = revisions(fleet, group, present)
        if not known:
            found.append(GroupStatus(group, "", 0))
            continue
        results = known[-1].results
        found.append(
            GroupStatus(
                group=group,
                configuration=known[-1].id,
                revision=revision_of(known[-1]),
                targeted=results.get("targetedCount"),
                applied=results.get("appliedCount"),
                succeeded=results.get("reportedSuccessfulCount"),
                failed=results.get("reportedFailedCount"),
                running=results.get("running"),
            )
        )
    return FleetStatus(fleet, hub.name, tuple(found))


def watch(
    fleet: str,
    groups: Sequence[str],
    hub: HubPort,
    timeout: float,
    interval: float = 5.0,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[FleetStatus]:
    """The status again and again, until every group is done.

    Args:
        fleet: the fleet's name.
        groups: the groups to wait for.
        hub: where they are.
        timeout: seconds after which to give up.
        interval: seconds between two looks; a hub takes 20 configuration calls a minute.
        sleep: waits that many seconds.
        clock: seconds, monotonic.

    Raises:
        FleetError: not done in time; the message says which group lacks how many devices.
    """
    end = clock() + timeout
    while True:
        now = status(fleet, groups, hub)
        yield now
        if now.done:
            return
        left = end - clock()
        if left <= 0:
            break
        sleep(min(interval, left))
    lacking = ", ".join(_lacks(group) for group in now.groups if not group.done)
    raise FleetError(
        f"fleet {fleet} is not done after {timeout:g} s: {lacking}",
        "look at the devices' $edgeAgent twins, or wait longer with --timeout",
    )


def _lacks(group: GroupStatus) -> str:
    if not group.revision:
        return f"{group.group} was never applied"
    if group.targeted is None:
        return f"{group.group} is not counted yet"
    if not group.targeted:
        return f"{group.group} matches no device"
    failed = f", {group.failed} failed" if group.failed else ""
    return f"{group.group} {group.succeeded or 0} of {group.targeted} devices{failed}"
