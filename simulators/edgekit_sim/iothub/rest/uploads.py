"""`/devices/{id}/files`: a device asks where to upload, and says how it ended."""

from aiohttp import web

from edgekit_sim.iothub.client_certificates import chain_of
from edgekit_sim.iothub.hub import Hub
from edgekit_sim.iothub.rest.requests import answer, body_of, hub_of, no_content

routes = web.RouteTableDef()


@routes.post("/devices/{device}/files")
async def begin(request: web.Request) -> web.Response:
    """Where to upload a blob to."""
    hub, device_id = _device(request)
    document = await body_of(request)
    return answer(hub.uploads.begin(device_id, document.get("blobName")))


@routes.post("/devices/{device}/files/notifications")
async def end(request: web.Request) -> web.Response:
    """The upload is over."""
    hub, device_id = _device(request)
    await hub.uploads.end(device_id, await body_of(request))
    await hub.store.committed()
    return no_content()


def _device(request: web.Request) -> tuple[Hub, str]:
    """The hub, and the device that proves it is the one of the address."""
    hub, device_id = hub_of(request), request.match_info["device"]
    chain = chain_of(request.get_extra_info("ssl_object"))
    hub.gatekeeper.device(device_id, "", request.headers.get("Authorization"), chain)
    return hub, device_id
