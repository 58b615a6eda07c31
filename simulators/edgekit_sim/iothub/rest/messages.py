"""Messages of the service side by REST: purge of commands, feedback, and notices of files."""

from aiohttp import web

from edgekit_sim.iothub.access import SERVICE_CONNECT
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.hub import Hub
from edgekit_sim.iothub.notices import Notices
from edgekit_sim.iothub.rest.requests import allow, answer, no_content

routes = web.RouteTableDef()


@routes.delete("/devices/{device}/commands")
async def purge(request: web.Request) -> web.Response:
    """Drop what waits for a device."""
    hub = allow(request, SERVICE_CONNECT)
    device_id = request.match_info["device"]
    count = hub.commands.purge(device_id)
    return answer({"totalMessagesPurged": count, "deviceId": device_id, "moduleId": None})


@routes.get("/messages/serviceBound/{kind}")
async def receive(request: web.Request) -> web.Response:
    """The next feedback, a list, or the next notice of a file; its lock is the ETag."""
    hub, notices = _notices(request)
    delivery = notices.receive()
    if delivery is None:
        return no_content()
    await hub.store.committed()
    body = delivery.documents if notices is hub.commands.feedback else delivery.documents[0]
    return answer(body, etag=delivery.lock)


@routes.delete("/messages/serviceBound/{kind}/{lock}")
async def complete(request: web.Request) -> web.Response:
    """It has been dealt with."""
    hub, notices = _notices(request)
    notices.complete(request.match_info["lock"])
    await hub.store.committed()
    return no_content()


@routes.post("/messages/serviceBound/{kind}/{lock}/abandon")
async def abandon(request: web.Request) -> web.Response:
    """It is given back."""
    _, notices = _notices(request)
    notices.abandon(request.match_info["lock"])
    return no_content()


def _notices(request: web.Request) -> tuple[Hub, Notices]:
    hub = allow(request, SERVICE_CONNECT)
    kinds = {"feedback": hub.commands.feedback, "filenotifications": hub.uploads.notices}
    found = kinds.get(request.match_info["kind"].lower())
    if found is None:
        raise HubFault(404, "ResourceNotFound", f"nothing is at {request.path[:200]}")
    return hub, found
