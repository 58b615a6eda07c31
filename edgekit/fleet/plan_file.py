"""A plan as a JSON file: what was reviewed is what will be applied."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.errors import FleetError
from edgekit.fleet.hub import Configuration
from edgekit.fleet.planning import FORMAT, GroupPlan, Overlap, Plan
from edgekit.manifest import content_digest
from edgekit.manifest.storing import store


def save_plan(plan: Plan, path: Path) -> None:
    """Write the plan with its digest; the file is there as a whole or not at all."""
    data = {**plan.data(), "digest": plan.digest}
    store(path, json.dumps(data, indent=2).encode() + b"\n")


def is_plan(path: Path) -> bool:
    """Whether the file looks like a saved plan rather than a fleet file."""
    return path.suffix == ".json"


def load_plan(path: Path) -> Plan:
    """Read a plan and see that nobody changed it.

    Raises:
        FleetError: it cannot be read, is no plan, or is not what its digest says.
    """
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise FleetError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise FleetError(f"{path} is no JSON", "make one: edgekit fleet plan -o FILE") from error
    if not isinstance(data, dict) or data.get("edgekit_plan") != FORMAT:
        raise FleetError(f"{path} is no plan of this edgekit", "make one: edgekit fleet plan -o")
    digest = data.pop("digest", None)
    if content_digest(data) != digest:
        raise FleetError(
            f"{path} is not what its digest says: it was changed after it was made",
            "change the fleet file and plan again",
        )
    try:
        return Plan(
            fleet=data["fleet"],
            hub=data["hub"],
            groups=tuple(map(_group, data["groups"])),
            etags=data["etags"],
        )
    except (KeyError, TypeError) as error:
        raise FleetError(f"{path} is no plan of this edgekit: {error}") from error


def _group(data: Mapping[str, Any]) -> GroupPlan:
    fields = dict(data)
    create = fields.pop("create")
    return GroupPlan(
        create=Configuration(**create) if create else None,
        updates=tuple(Configuration(**item) for item in fields.pop("updates")),
        overlaps=tuple(Overlap(**item) for item in fields.pop("overlaps")),
        **fields,
    )
