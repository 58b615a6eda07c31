"""`/digitaltwins`: a plug-and-play device's twin by its model, and its commands."""

import orjson
from aiohttp import web

from edgekit_sim.iothub.access import SERVICE_CONNECT
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.rest.requests import allow, answer
from edgekit_sim.iothub.twins import Json

routes = web.RouteTableDef()


@routes.get("/digitaltwins/{device}")
async def get_digital_twin(request: web.Request) -> web.Response:
    """The twin in the form of the digital twin definition language."""
    identity = allow(request, SERVICE_CONNECT).registry.get(request.match_info["device"])
    return answer(digital_twin(identity), etag=identity.twin.etag)


@routes.patch("/digitaltwins/{device}")
async def patch_digital_twin(request: web.Request) -> web.Response:
    """Change desired properties by a JSON patch (add, replace, remove)."""
    hub = allow(request, SERVICE_CONNECT)
    identity = hub.registry.get(request.match_info["device"])
    try:
        operations = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        operations = None
    if not isinstance(operations, list):
        raise HubFault(400, "ArgumentInvalid", "the body must be a JSON patch, an array")
    desired: Json = {}
    for operation in operations:
        _add(desired, operation)
    document = {"properties": {"desired": desired}}
    hub.registry.change_twin(identity, document, request.headers.get("If-Match"), replace=False)
    headers = {"ETag": f'"{identity.twin.etag}"', "Location": request.path}
    return web.Response(status=202, headers=headers)


@routes.post("/digitaltwins/{device}/commands/{command}")
@routes.post("/digitaltwins/{device}/components/{component}/commands/{command}")
async def invoke(request: web.Request) -> web.Response:
    """Call a command: a direct method, of a component under `component*command`."""
    hub = allow(request, SERVICE_CONNECT)
    identity = hub.registry.get(request.match_info["device"])
    component, name = request.match_info.get("component"), request.match_info["command"]
    try:
        payload = orjson.loads(await request.read() or b"null")
    except orjson.JSONDecodeError as error:
        raise HubFault(400, "ArgumentInvalid", "the body is no JSON") from error
    method = f"{component}*{name}" if component else name
    call: Json = {"methodName": method, "payload": payload}
    for field in ("connectTimeoutInSeconds", "responseTimeoutInSeconds"):
        if request.query.get(field, "").isdigit():
            call[field] = int(request.query[field])
    result = await hub.methods.invoke(identity, call)
    response = answer(result["payload"])
    response.headers["x-ms-command-statuscode"] = str(result["status"])
    return response


def digital_twin(identity: Identity) -> Json:
    """Reported properties with what is desired of them, under the device's model."""
    twin = identity.twin
    document: Json = {
        "$dtId": identity.device_id,
        "$metadata": {"$model": twin.model_id},
        **twin.reported.value,
    }
    for name, value in twin.desired.value.items():
        document["$metadata"][name] = {
            "desiredValue": value,
            "desiredVersion": twin.desired.version,
        }
    return document


def _add(desired: Json, operation: object) -> None:
    """Put one operation of a JSON patch into a merge patch."""
    if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
        raise HubFault(400, "ArgumentInvalid", "an operation of the patch has no path")
    kind, steps = operation.get("op"), operation["path"].split("/")[1:]
    if kind not in ("add", "replace", "remove") or not steps or not all(steps):
        raise HubFault(400, "ArgumentInvalid", f"an operation {kind!r} on that path is unknown")
    for step in steps[:-1]:
        desired = desired.setdefault(step, {})
    desired[steps[-1]] = None if kind == "remove" else operation.get("value")
