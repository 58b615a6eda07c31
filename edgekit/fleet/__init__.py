"""Device groups and their manifests, planned and applied over a small hub port."""

from edgekit.fleet.applying import apply
from edgekit.fleet.azure_hub import AzureHub
from edgekit.fleet.file import Fleet, Group, load_fleet, parse_fleet
from edgekit.fleet.hub import Configuration, HubPort
from edgekit.fleet.images import ImageResolver, from_table, no_records, recorded
from edgekit.fleet.plan_file import load_plan, save_plan
from edgekit.fleet.planning import GroupPlan, Plan, plan
from edgekit.fleet.progress import FleetStatus, GroupStatus, status, watch

__all__ = [
    "AzureHub",
    "Configuration",
    "Fleet",
    "FleetStatus",
    "Group",
    "GroupPlan",
    "GroupStatus",
    "HubPort",
    "ImageResolver",
    "Plan",
    "apply",
    "from_table",
    "load_fleet",
    "load_plan",
    "no_records",
    "parse_fleet",
    "plan",
    "recorded",
    "save_plan",
    "status",
    "watch",
]
