"""`/registrations`: what became of devices, for the service side."""

from aiohttp import web

from edgekit_sim.dps.access import REGISTRATION_READ, REGISTRATION_WRITE
from edgekit_sim.dps.rest.requests import allow, answer, no_content, page

routes = web.RouteTableDef()


@routes.get("/registrations/{id}")
async def get_registration(request: web.Request) -> web.Response:
    """The state of one device's registration."""
    service = allow(request, REGISTRATION_READ)
    found = service.registrations.get(request.match_info["id"])
    return answer(found.resource(), etag=found.etag)


@routes.delete("/registrations/{id}")
async def delete_registration(request: web.Request) -> web.Response:
    """Forget a registration: the device's next one is its first; its hub keeps the device."""
    service = allow(request, REGISTRATION_WRITE)
    service.registrations.delete(request.match_info["id"], request.headers.get("If-Match"))
    await service.committed()
    return no_content()


@routes.post("/registrations/{id}/query")
async def query_group(request: web.Request) -> web.Response:
    """The states of all devices that came by a group, in pages."""
    service = allow(request, REGISTRATION_READ)
    group = service.groups.get(request.match_info["id"])
    states = [one.resource() for one in service.registrations.of_group(group.id)]
    return page(request, states, "deviceRegistration")
