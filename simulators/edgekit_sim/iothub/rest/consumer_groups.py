"""`/edgekit/consumer-groups`: what the real service has in its resource provider's API."""

from aiohttp import web

from edgekit_sim.iothub.access import SERVICE_CONNECT
from edgekit_sim.iothub.rest.requests import NODES, allow, answer, no_content

routes = web.RouteTableDef()


@routes.get("/edgekit/consumer-groups")
async def names(request: web.Request) -> web.Response:
    """The groups' names, in order."""
    allow(request, SERVICE_CONNECT)
    return answer(request.app[NODES].groups.names())


@routes.put("/edgekit/consumer-groups/{group}")
async def add(request: web.Request) -> web.Response:
    """Make a group, if it is not there."""
    allow(request, SERVICE_CONNECT)
    request.app[NODES].groups.add(request.match_info["group"])
    return no_content()


@routes.delete("/edgekit/consumer-groups/{group}")
async def remove(request: web.Request) -> web.Response:
    """Remove a group."""
    allow(request, SERVICE_CONNECT)
    request.app[NODES].groups.remove(request.match_info["group"])
    return no_content()
