"""`/configurations`, and a configuration's content applied to one device."""

from collections.abc import Callable

from aiohttp import web

from edgekit_sim.iothub import query
from edgekit_sim.iothub.access import REGISTRY_READ, REGISTRY_WRITE
from edgekit_sim.iothub.configurations import apply_once
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.rest.requests import allow, answer, body_of, no_content

routes = web.RouteTableDef()


@routes.get("/configurations")
async def list_configurations(request: web.Request) -> web.Response:
    """All configurations, or the first `top`."""
    configurations = allow(request, REGISTRY_READ).configurations
    top = request.query.get("top", "")
    found = configurations.all()[: int(top) if top.isdigit() else None]
    return answer([configurations.resource(configuration) for configuration in found])


@routes.get("/configurations/{configuration}")
async def get_configuration(request: web.Request) -> web.Response:
    """A configuration with its metrics, counted now."""
    configurations = allow(request, REGISTRY_READ).configurations
    found = configurations.get(request.match_info["configuration"])
    return answer(configurations.resource(found), etag=found.document["etag"])


@routes.put("/configurations/{configuration}")
async def put_configuration(request: web.Request) -> web.Response:
    """Create a configuration, or with If-Match change one."""
    hub = allow(request, REGISTRY_WRITE)
    name = request.match_info["configuration"]
    document = await body_of(request)
    kept = await hub.configurations.put(name, document, request.headers.get("If-Match"))
    return answer(hub.configurations.resource(kept), etag=kept.document["etag"])


@routes.delete("/configurations/{configuration}")
async def delete_configuration(request: web.Request) -> web.Response:
    """Delete a configuration."""
    hub = allow(request, REGISTRY_WRITE)
    name = request.match_info["configuration"]
    await hub.configurations.delete(name, request.headers.get("If-Match"))
    return no_content()


@routes.post("/configurations/testQueries")
async def test_queries(request: web.Request) -> web.Response:
    """Say what is wrong with a target condition and with metric queries."""
    allow(request, REGISTRY_READ)
    document = await body_of(request)
    condition = document.get("targetCondition")
    sent = document.get("customMetricQueries") or {}
    problems = {name: _problem(query.parse_query, text) for name, text in sent.items()}
    return answer(
        {
            "targetConditionError": _problem(query.parse_condition, condition or "*"),
            "customMetricQueryErrors": {name: text for name, text in problems.items() if text},
        }
    )


@routes.post("/devices/{device}/applyConfigurationContent")
async def apply_content(request: web.Request) -> web.Response:
    """Apply a configuration's content to one device, once."""
    hub = allow(request, REGISTRY_WRITE)
    device = hub.registry.get(request.match_info["device"])
    apply_once(hub.registry, device, await body_of(request))
    return no_content()


def _problem(parse: Callable[[str], object], text: object) -> str | None:
    try:
        parse(str(text))
    except HubFault as fault:
        return str(fault)
    return None
