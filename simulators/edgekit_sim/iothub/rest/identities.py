"""`/devices` and `/devices/{id}/modules`: the identity registry, and statistics over it."""

import itertools

import orjson
from aiohttp import web

from edgekit_sim.iothub.access import REGISTRY_READ, REGISTRY_WRITE
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.registry import Registry
from edgekit_sim.iothub.rest.requests import allow, answer, body_of, hub_of, ids, no_content
from edgekit_sim.iothub.twins import Json

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
    await hub_of(request).store.committed()
    return answer(identity.resource(), etag=identity.etag)


@routes.delete("/devices/{device}")
@routes.delete("/devices/{device}/modules/{module}")
async def delete_identity(request: web.Request) -> web.Response:
    """Delete an identity."""
    registry = _permit(request, REGISTRY_WRITE)
    registry.delete(*ids(request), request.headers.get("If-Match"))
    await hub_of(request).store.committed()
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
    errors = []
    for entry in entries:
        try:
            _bulk_one(hub.registry, entry)
        except HubFault as fault:
            errors.append(
                {
                    "deviceId": entry.get("id"),
                    "moduleId": entry.get("moduleId"),
                    "errorCode": fault.code,
                    "errorStatus": str(fault),
                }
            )
    await hub.store.committed()
    result = {"isSuccessful": not errors, "errors": errors, "warnings": []}
    return answer(result, 400 if errors else 200)


def _bulk_one(registry: Registry, entry: Json) -> None:
    """Carry out one entry (an ExportImportDevice) of a bulk call."""
    device_id, module_id = str(entry.get("id") or ""), str(entry.get("moduleId") or "")
    mode = entry.get("importMode") or "createOrUpdate"
    etag = entry.get("eTag") or "*"
    present = registry.find(device_id, module_id)
    document = {key: value for key, value in entry.items() if key not in ("id", "eTag", "etag")}
    if mode in ("create", "createOrUpdate", "createOrUpdateIfMatchETag") and present is None:
        identity = registry.put(device_id, module_id, document, None)
        _bulk_twin(registry, identity, entry)
    elif mode == "create":
        registry.put(device_id, module_id, document, None)
    elif mode in ("update", "createOrUpdate"):
        identity = registry.put(device_id, module_id, document, "*")
        _bulk_twin(registry, identity, entry)
    elif mode in ("updateIfMatchETag", "createOrUpdateIfMatchETag"):
        identity = registry.put(device_id, module_id, document, etag)
        _bulk_twin(registry, identity, entry)
    elif mode in ("delete", "deleteIfMatchETag"):
        registry.delete(device_id, module_id, "*" if mode == "delete" else etag)
    elif mode in ("updateTwin", "updateTwinIfMatchETag"):
        _bulk_twin(registry, registry.get(device_id, module_id), entry)
    else:
        raise HubFault(400, "ArgumentInvalid", f"importMode {mode!r} is unknown")


def _bulk_twin(registry: Registry, identity: Identity, entry: Json) -> None:
    twin = {key: entry[key] for key in ("tags", "properties") if entry.get(key) is not None}
    if twin:
        registry.change_twin(identity, twin, entry.get("twinETag"), replace=False)


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
