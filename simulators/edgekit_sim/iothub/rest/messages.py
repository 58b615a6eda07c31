"""Cloud-to-device messages by REST: purge, and feedback."""

from aiohttp import web

from edgekit_sim.iothub.access import SERVICE_CONNECT
from edgekit_sim.iothub.rest.requests import allow, answer, no_content

routes = web.RouteTableDef()


@routes.delete("/devices/{device}/commands")
async def purge(request: web.Request) -> web.Response:
    """Drop what waits for a device."""
    hub = allow(request, SERVICE_CONNECT)
    device_id = request.match_info["device"]
    count = hub.commands.purge(device_id)
    return answer({"totalMessagesPurged": count, "deviceId": device_id, "moduleId": None})


@routes.get("/messages/serviceBound/feedback")
async def receive_feedback(request: web.Request) -> web.Response:
    """The next batch of feedback; its lock is the ETag."""
    batch = allow(request, SERVICE_CONNECT).commands.receive_feedback()
    if batch is None:
        return no_content()
    return answer(batch.records, etag=batch.lock)


@routes.delete("/messages/serviceBound/feedback/{lock}")
async def complete_feedback(request: web.Request) -> web.Response:
    """The batch has been dealt with."""
    hub = allow(request, SERVICE_CONNECT)
    hub.commands.complete_feedback(request.match_info["lock"])
    return no_content()


@routes.post("/messages/serviceBound/feedback/{lock}/abandon")
async def abandon_feedback(request: web.Request) -> web.Response:
    """The batch is given back."""
    hub = allow(request, SERVICE_CONNECT)
    hub.commands.abandon_feedback(request.match_info["lock"])
    return no_content()
