"""`edgekit fleet`: plan, apply and watch deployments of device groups."""

import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.manifest import FILE, image_option, print_changes, resolver
from edgekit.cli.output import json_option, print_json, print_table, say
from edgekit.errors import FleetError

if TYPE_CHECKING:
    from edgekit.fleet import AzureHub, FleetStatus, Plan


@click.group()
def fleet() -> None:
    """Roll manifests out to device groups.

    The hub is the one whose connection string EDGEKIT_HUB_CONNECTION_STRING holds, or the file
    that EDGEKIT_HUB_CONNECTION_STRING_FILE names.

    \b
    Examples:
      edgekit fleet plan fleet.yaml -o plan.json    what would change; exits 3 if anything does
      edgekit fleet apply plan.json                 do that and nothing else
      edgekit fleet status fleet.yaml --watch       wait until every device has it
    """


@fleet.command("plan")
@click.argument("file", metavar="FLEET", type=FILE)
@click.option("--output", "-o", type=FILE, help="Save the plan here, for apply.")
@image_option
@json_option
def plan_command(file: Path, output: Path | None, images: tuple[str, ...], as_json: bool) -> int:
    """Show what an apply of FLEET, a fleet file, would change on the hub; changes nothing.

    Exits 0 when the hub carries it already, 3 when there is something to do.

    \b
    Examples:
      edgekit fleet plan fleet.yaml
      edgekit fleet plan fleet.yaml -o plan.json
    """
    from edgekit.fleet import save_plan

    plan = _plan(file, images, _hub())
    if output:
        save_plan(plan, output)
    if as_json:
        print_json(_plan_object(plan, output))
    else:
        _show(plan)
        if output:
            say(f"{output}: apply it with: edgekit fleet apply {output}")
    return 3 if plan.changes_anything else 0


@fleet.command("apply")
@click.argument("file", metavar="FLEET|PLAN", type=FILE)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show the plan and change nothing.")
@image_option
@json_option
def apply_command(
    file: Path, yes: bool, dry_run: bool, images: tuple[str, ...], as_json: bool
) -> None:
    """Make the hub carry a fleet file, or do what a saved plan says.

    Refuses when the hub's deployments have changed since the plan.

    \b
    Examples:
      edgekit fleet apply fleet.yaml
      edgekit fleet apply plan.json --yes
    """
    from edgekit.fleet import apply, load_plan
    from edgekit.fleet.plan_file import is_plan

    hub = _hub()
    plan = load_plan(file) if is_plan(file) else _plan(file, images, hub)
    if not as_json:
        _show(plan)
    done = []
    if plan.changes_anything and not dry_run:
        if not yes:
            _ask(plan)
        done = apply(plan, hub, lambda item: say(f"{item.id}: stored, priority {item.priority}"))
    if not dry_run:
        _note(hub)
    if as_json:
        stored = [item.id for item in done]
        print_json({**_plan_object(plan, None), "dry_run": dry_run, "stored": stored})


@fleet.command("status")
@click.argument("file", metavar="FLEET", type=FILE)
@click.option(
    "--watch", is_flag=True, help="Wait until every device of every group reports success."
)
@click.option("--timeout", default=600.0, show_default=True, help="Seconds to wait for that.")
@click.option("--interval", default=5.0, show_default=True, help="Seconds between two looks.")
@json_option
def status_command(file: Path, watch: bool, timeout: float, interval: float, as_json: bool) -> None:
    """Show how many devices have the newest revision of each group, and how it went.

    The hub counts; a real one takes some minutes until its counts follow the devices. With
    --watch, exits 1 when the devices are not done in time.

    \b
    Examples:
      edgekit fleet status fleet.yaml
      edgekit fleet status fleet.yaml --watch --timeout 300
    """
    from edgekit.fleet import status
    from edgekit.fleet import watch as watch_fleet
    from edgekit.fleet.file import load_names

    if timeout < 0 or interval <= 0:
        raise click.UsageError("--timeout and --interval are positive seconds")
    name, conditions = load_names(file)
    groups = list(conditions)
    hub = _hub()
    if not watch:
        _show_status(status(name, groups, hub), as_json)
        return
    last = None
    try:
        for now in watch_fleet(name, groups, hub, timeout, interval):
            if now != last and not as_json:
                say(_line(now))
            last = now
    finally:
        if last:
            _show_status(last, as_json)


def _hub() -> "AzureHub":
    from edgekit.fleet import AzureHub

    if not logging.getLogger().isEnabledFor(logging.INFO):
        # each retry is a warning there; the last one becomes our one line
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    return AzureHub.from_environment()


def _plan(file: Path, images: tuple[str, ...], hub: "AzureHub") -> "Plan":
    from edgekit.fleet import load_fleet, plan

    return plan(load_fleet(file, resolver(images)), hub)


def _note(hub: "AzureHub") -> None:
    """Record in the workspace, where there is one, what the hub's deployments carry now."""
    from edgekit.errors import WorkspaceError
    from edgekit.fleet.images import carried
    from edgekit.registry import Registry
    from edgekit.workspace import Workspace

    try:
        workspace = Workspace.find()
    except WorkspaceError:
        return
    Registry.open(workspace).note_deployments(
        hub.name, {item.id: carried(item) for item in hub.configurations()}
    )


def _ask(plan: "Plan") -> None:
    if not sys.stdin.isatty():
        raise FleetError("nobody is here to confirm the plan", "add --yes to apply it")
    devices = sum(group.devices for group in plan.groups if group.action != "none")
    click.confirm(f"Apply this to {devices} devices on {plan.hub}?", abort=True, err=True)


def _plan_object(plan: "Plan", output: Path | None) -> dict[str, Any]:
    return {
        "fleet": plan.fleet,
        "hub": plan.hub,
        "digest": plan.digest,
        "changes": plan.changes_anything,
        "hub_calls": plan.calls,
        "path": str(output) if output else None,
        "groups": [
            {
                "group": group.group,
                "action": group.action,
                "revision": group.revision,
                "devices": group.devices,
                "kept": group.kept,
                "hub_calls": group.calls,
                "configuration": group.create.id if group.create else None,
                "overlaps": [asdict(overlap) for overlap in group.overlaps],
                "changes": [vars(change) for change in group.changes],
            }
            for group in plan.groups
        ],
    }


def _show(plan: "Plan") -> None:
    print_table(
        f"Fleet {plan.fleet} on {plan.hub}",
        ["group", "action", "revision", "devices", "changes", "earlier revisions", "hub calls"],
        [
            (
                group.group,
                group.action,
                group.revision,
                group.devices,
                len(group.changes),
                group.kept,
                group.calls,
            )
            for group in plan.groups
        ],
    )
    for group in plan.groups:
        if group.changes:
            click.echo(f"\n{group.group}: what changes on its devices")
            print_changes(group.changes)
        for overlap in group.overlaps:
            say(
                f"{group.group}: {overlap.configuration} targets {overlap.devices} of its "
                f"{group.devices} devices too; what they get depends on the priorities"
            )
        if not group.devices:
            say(f"{group.group}: no IoT Edge device matches its condition now")


def _show_status(status: "FleetStatus", as_json: bool) -> None:
    if as_json:
        rows = [{**asdict(group), "done": group.done} for group in status.groups]
        print_json({"fleet": status.fleet, "hub": status.hub, "done": status.done, "groups": rows})
        return
    print_table(
        f"Fleet {status.fleet} on {status.hub}",
        ["group", "revision", "targeted", "applied", "succeeded", "failed", "running"],
        [
            (
                group.group,
                group.revision or "not applied",
                group.targeted,
                group.applied,
                group.succeeded,
                group.failed,
                group.running,
            )
            for group in status.groups
        ],
    )


def _line(status: "FleetStatus") -> str:
    parts = [
        f"{group.group} {group.succeeded or 0}/{group.targeted or 0}"
        + (f" ({group.failed} failed)" if group.failed else "")
        for group in status.groups
    ]
    return f"succeeded: {', '.join(parts)}"
