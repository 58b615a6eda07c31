"""The provisioning service over HTTPS: its service API, its device API, and our own."""

from edgekit_sim.dps.rest.application import add_provisioning
from edgekit_sim.dps.rest.requests import error_document

__all__ = ["add_provisioning", "error_document"]
