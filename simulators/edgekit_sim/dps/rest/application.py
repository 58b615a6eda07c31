"""The service's routes beside those of the hub."""

from aiohttp import web

from edgekit_sim.dps.provisioning import Provisioning
from edgekit_sim.dps.rest import device, edgekit, enrollments, registrations
from edgekit_sim.dps.rest.requests import SERVICE, guarded


def add_provisioning(application: web.Application, service: Provisioning) -> None:
    """Let an application that has not started serve a provisioning service, too."""
    application[SERVICE] = service
    for part in (enrollments, registrations, device, edgekit):
        for route in part.routes:
            assert isinstance(route, web.RouteDef)
            application.router.add_route(route.method, route.path, guarded(route.handler))
