"""`/edgekit/`: what the real service does not have: events by HTTP, and faults on command."""

import time

from aiohttp import web

from edgekit_sim.iothub.access import REGISTRY_WRITE, SERVICE_CONNECT
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.events import PAGE
from edgekit_sim.iothub.hub import Hub
from edgekit_sim.iothub.rest.requests import answer, body_of, hub_of, no_content

routes = web.RouteTableDef()


@routes.get("/edgekit/events")
async def events(request: web.Request) -> web.Response:
    """`?after=N&limit=M&endpoint=E`: events with a sequence number above N, in order.

    Without an endpoint, those of the built-in one; else of the event stream of that name.
    """
    hub = _allow(request, SERVICE_CONNECT)
    endpoint = request.query.get("endpoint")
    log = hub.router.log(endpoint) if endpoint else hub.events
    after, limit = (
        _number(request, name, default) for name, default in (("after", 0), ("limit", PAGE))
    )
    return answer(log.read(after, limit))


@routes.get("/edgekit/faults")
async def list_faults(request: web.Request) -> web.Response:
    """The faults in force."""
    return answer(_allow(request, SERVICE_CONNECT).faults.documents())


@routes.post("/edgekit/faults")
async def faults(request: web.Request) -> web.Response:
    """Begin a fault, or heal all; see `edgekit_sim.iothub.faults`."""
    hub = _allow(request, SERVICE_CONNECT)
    fault = hub.faults.order(await body_of(request))
    if fault is not None:
        hub.reset(fault)
    return no_content()


@routes.put("/edgekit/authorities/{name}")
async def authority(request: web.Request) -> web.Response:
    """Trust an authority (PEM in the body) to issue certificates for devices."""
    hub = _allow(request, REGISTRY_WRITE)
    hub.gatekeeper.trust(request.match_info["name"], await request.read())
    return no_content()


def _allow(request: web.Request, right: str) -> Hub:
    """Check the request's token by the true clock: a skewed one must be healed, too."""
    hub = hub_of(request)
    hub.gatekeeper.service(request.headers.get("Authorization"), right, time.time())
    return hub


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isdigit() or len(text) > 18:
        raise HubFault(400, "ArgumentInvalid", f"{name} must be a number")
    return int(text)
