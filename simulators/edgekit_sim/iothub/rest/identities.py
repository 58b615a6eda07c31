"""`/devices` and `/devices/{id}/modules`: the identity registry, and statistics over it."""

import itertools

import orjson
from aiohttp import web

from edgekit_sim.iothub.access import REGISTRY_READ, REGISTRY_WRITE
from edgekit_sim.iothub.bulk import carry_out
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.registry import Registry
from edgekit_sim.iothub.rest.requests import allow, answer, body_of, hub_of, ids, no_content

LIST_LIMIT = 1000
BULK_LIMIT = 100

routes = web.RouteTableDef()


@routes.get("/devices")
async def list_devices(request: web.Request) -> web.Response:
    """The first identities of the registry, at most 1000."""
    hub = allow(request, REGISTRY_READ)
    top = request.query.get("top", "")
    limit = int(top) if top.isdigit() and 1 <= int(top) <= LIST_LIMIT else LIST_LIMIT
    devices = [device.resource() for device in itertools.islice(hub.registry.devices(), limit)]
    return answer(devices)


@routes.get("/devices/{device}")
@routes.get("/devices/{device}/modules/{module}")
async def get_identity(request: web.Request) -> web.Response:
    """A device or module identity."""
    identity = _permit(request, REGISTRY_READ).get(*ids(request))
    return answer(identity.resource(), etag=identity.etag)


@routes.get("/devices/{device}/modules")
async def list_modules(request: web.Request) -> web.Response:
    """The modules of a device."""
    registry = _permit(request, REGISTRY_READ)
    device_id, _ = ids(request)
    registry.get(device_id)
    return answer([module.resource() for module in registry.modules(device_id)])


@routes.put("/devices/{device}")
@routes.put("/devices/{device}/modules/{module}")
async def put_identity(request: web.Request) -> web.Response:
    """Create an identity, or with If-Match update one."""
    registry = _permit(request, REGISTRY_WRITE)
    document = await body_of(request)
    identity = registry.put(*ids(request), document, request.headers.get("If-Match"))
    return answer(identity.resource(), etag=identity.etag)


@routes.delete("/devices/{device}")
@routes.delete("/devices/{device}/modules/{module}")
async def delete_identity(request: web.Request) -> web.Response:
    """Delete an identity."""
    registry = _permit(request, REGISTRY_WRITE)
    registry.delete(*ids(request), request.headers.get("If-Match"))
    return no_content()


@routes.post("/devices")
async def bulk(request: web.Request) -> web.Response:
    """Create, update or delete up to 100 devices and modules in one call."""
    hub = allow(request, REGISTRY_WRITE)
    try:
        entries = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        entries = None
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise HubFault(400, "ArgumentInvalid", "the body must be a JSON array of devices")
    if len(entries) > BULK_LIMIT:
        raise HubFault(400, "TooManyDevices", f"more than {BULK_LIMIT} devices in one call")
    errors = carry_out(hub.registry, entries)
    result = {"isSuccessful": not errors, "errors": errors, "warnings": []}
    return answer(result, 400 if errors else 200)


@routes.get("/statistics/devices")
async def device_statistics(request: web.Request) -> web.Response:
    """How many devices there are, enabled and disabled."""
    devices = list(allow(request, REGISTRY_READ).registry.devices())
    enabled = sum(device.status == "enabled" for device in devices)
    return answer(
        {
            "totalDeviceCount": len(devices),
            "enabledDeviceCount": enabled,
            "disabledDeviceCount": len(devices) - enabled,
        }
    )


@routes.get("/statistics/service")
async def service_statistics(request: web.Request) -> web.Response:
    """How many devices are connected."""
    return answer({"connectedDeviceCount": allow(request, REGISTRY_READ).connected_count()})


def _permit(request: web.Request, right: str) -> Registry:
    """Let a service through, or a device that manages its own modules."""
    hub = hub_of(request)
    token = request.headers.get("Authorization")
    if "/modules" in request.path or request.method == "GET":
        hub.gatekeeper.device_or_service(token, right, *ids(request))
    else:
        hub.gatekeeper.service(token, right)
    return hub.registry
