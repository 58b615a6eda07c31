"""Carries out a plan, and nothing but that plan."""

import logging
from collections.abc import Callable

from edgekit.errors import FleetError, HubError
from edgekit.fleet.hub import Configuration, HubPort
from edgekit.fleet.planning import Plan

log = logging.getLogger(__name__)


def apply(
    plan: Plan, hub: HubPort, told: Callable[[Configuration], None] | None = None
) -> list[Configuration]:
    """Make the plan's configurations on the hub.

    Stopped half-way it leaves whole revisions only: planning again finds what is done and goes on
    with the rest.

    Args:
        plan: from `edgekit.fleet.plan` or a saved file.
        hub: the hub it was made for.
        told: called after each change with what the hub stored.

    Returns:
        What was created or updated, in order.

    Raises:
        FleetError: the plan is for another hub, or the hub's deployments changed since the plan.
        HubError: the hub refused a call; the message says how many changes were made before.
    """
    if hub.name != plan.hub:
        raise FleetError(
            f"the plan is for {plan.hub}, this hub is {hub.name}", "plan again for this hub"
        )
    _unchanged(plan, hub)
    made: list[Configuration] = []
    try:
        for group in plan.groups:
            # the new revision first: should the rest fail, the group runs what was asked for
            for item in [group.create] if group.create else []:
                made.append(hub.create(item))
                _tell(made[-1], told)
            for item in group.updates:
                made.append(hub.update(item))
                _tell(made[-1], told)
    except HubError as error:
        if not made:
            raise
        names = ", ".join(item.id for item in made)
        raise HubError(
            f"{error}; {names} was already stored", error.hint or "plan again"
        ) from error
    return made


def _tell(item: Configuration, told: Callable[[Configuration], None] | None) -> None:
    log.info("%s stored, priority %d, for %s", item.id, item.priority, item.condition)
    if told:
        told(item)


def _unchanged(plan: Plan, hub: HubPort) -> None:
    now = {
        item.id: item.etag for item in hub.configurations() if item.content.get("modulesContent")
    }
    before = dict(plan.etags)
    if now == before:
        return
    name = min(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
    what = "is new" if name not in before else "is gone" if name not in now else "changed"
    raise FleetError(
        f"the hub has changed since the plan: configuration {name} {what}",
        "plan again and look at the difference",
    )
