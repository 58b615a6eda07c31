"""`/twins`, direct methods and `/devices/query`."""

import base64
import binascii

from aiohttp import web

from edgekit_sim.iothub import query
from edgekit_sim.iothub.access import SERVICE_CONNECT
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.rest.requests import allow, answer, body_of, hub_of, ids

PAGE = 100  # rows of an answer unless the request names a number
PAGE_LIMIT = 1000

routes = web.RouteTableDef()


@routes.get("/twins/{device}")
@routes.get("/twins/{device}/modules/{module}")
async def get_twin(request: web.Request) -> web.Response:
    """A twin."""
    identity = allow(request, SERVICE_CONNECT).registry.get(*ids(request))
    return answer(identity.twin_resource(), etag=identity.twin.etag)


@routes.patch("/twins/{device}")
@routes.patch("/twins/{device}/modules/{module}")
@routes.put("/twins/{device}")
@routes.put("/twins/{device}/modules/{module}")
async def change_twin(request: web.Request) -> web.Response:
    """Patch tags and desired properties, or with PUT replace them."""
    hub = allow(request, SERVICE_CONNECT)
    identity = hub.registry.get(*ids(request))
    document = await body_of(request)
    hub.registry.change_twin(
        identity, document, request.headers.get("If-Match"), replace=request.method == "PUT"
    )
    return answer(identity.twin_resource(), etag=identity.twin.etag)


@routes.post("/twins/{device}/methods")
@routes.post("/twins/{device}/modules/{module}/methods")
async def invoke_method(request: web.Request) -> web.Response:
    """Call a direct method and wait for the answer; modules may call those of their device."""
    hub, (device_id, module_id) = hub_of(request), ids(request)
    if not hub.gatekeeper.device_of(request.headers.get("Authorization"), device_id):
        allow(request, SERVICE_CONNECT)
    identity = hub.registry.get(device_id, module_id)
    return answer(await hub.methods.invoke(identity, await body_of(request)))


@routes.post("/devices/query")
async def run_query(request: web.Request) -> web.Response:
    """Run a query and answer a page of its rows."""
    hub = allow(request, SERVICE_CONNECT)
    document = await body_of(request)
    text = document.get("query")
    if not isinstance(text, str):
        raise HubFault(400, "ArgumentInvalid", "the body must have a query")
    parsed = query.parse_query(text)
    if parsed.source == "devices.modules":
        rows = query.run(parsed, hub.registry.modules())
    elif parsed.source == "devices.jobs":
        rows = query.run(parsed, hub.jobs.parts())
    else:
        rows = query.run(parsed, hub.registry.devices())
    return page(request, rows, "twin" if not parsed.columns else "raw")


def page(request: web.Request, rows: list[object], kind: str) -> web.Response:
    """One page of an answer; a continuation token names where the next begins.

    Raises:
        HubFault: 400, for a token or page size that cannot be.
    """
    sent = request.headers.get("x-ms-continuation", "")
    size = request.headers.get("x-ms-max-item-count", "") or str(PAGE)
    try:
        start = int(base64.b64decode(sent, validate=True)) if sent else 0
    except (ValueError, binascii.Error) as error:
        raise HubFault(400, "ArgumentInvalid", "the continuation token is none of ours") from error
    if not size.isdigit() or not 1 <= int(size) <= PAGE_LIMIT:
        raise HubFault(400, "ArgumentInvalid", f"x-ms-max-item-count must be 1 to {PAGE_LIMIT}")
    end = start + int(size)
    response = answer(rows[start:end])
    response.headers["x-ms-item-type"] = kind
    if end < len(rows):
        response.headers["x-ms-continuation"] = base64.b64encode(str(end).encode()).decode()
    return response
