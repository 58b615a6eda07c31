"""`/edgekit/routing`: what the real service has in its resource provider's API."""

from aiohttp import web

from edgekit_sim.iothub.access import REGISTRY_READ, REGISTRY_WRITE
from edgekit_sim.iothub.rest.requests import allow, answer, body_of
from edgekit_sim.iothub.routing.configuration import Routing, read_routing
from edgekit_sim.iothub.routing.trial import try_route, try_routes

routes = web.RouteTableDef()


@routes.get("/edgekit/routing")
async def get(request: web.Request) -> web.Response:
    """The routing section as it is in force."""
    return answer(allow(request, REGISTRY_READ).router.routing.document())


@routes.put("/edgekit/routing")
async def put(request: web.Request) -> web.Response:
    """Put a routing section in the place of the one that was there."""
    hub = allow(request, REGISTRY_WRITE)
    hub.router.configure(read_routing(await body_of(request)))
    return answer(hub.router.routing.document())


@routes.delete("/edgekit/routing")
async def reset(request: web.Request) -> web.Response:
    """Go back to what a new hub has: everything devices send to the built-in endpoint."""
    hub = allow(request, REGISTRY_WRITE)
    hub.router.configure(Routing())
    return answer(hub.router.routing.document())


@routes.get("/edgekit/routing/health")
async def health(request: web.Request) -> web.Response:
    """How the endpoints are."""
    return answer({"value": allow(request, REGISTRY_READ).router.health()})


@routes.post("/edgekit/routing/routes/$testnew")
async def test_new(request: web.Request) -> web.Response:
    """What a route would do with a message."""
    allow(request, REGISTRY_READ)
    return answer(try_route(await body_of(request)))


@routes.post("/edgekit/routing/routes/$testall")
async def test_all(request: web.Request) -> web.Response:
    """Which of the routes in force would take a message."""
    hub = allow(request, REGISTRY_READ)
    return answer(try_routes(await body_of(request), hub.router.routing))
