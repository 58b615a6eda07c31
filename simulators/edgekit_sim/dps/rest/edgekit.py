"""`/edgekit/dps/`: what the real service has in Azure's resource manager, and a fault on command.

All of it needs the right ServiceConfig, which only `provisioningserviceowner` has.
"""

from aiohttp import web

from edgekit_sim.dps import certificates
from edgekit_sim.dps.access import SERVICE_CONFIG
from edgekit_sim.dps.errors import BAD_REQUEST, ProvisioningFault
from edgekit_sim.dps.rest.requests import allow, answer, body_of, no_content

routes = web.RouteTableDef()


@routes.get("/edgekit/dps/linkedHubs")
async def list_hubs(request: web.Request) -> web.Response:
    """The linked hubs, without their connection strings."""
    return answer([hub.resource() for hub in allow(request, SERVICE_CONFIG).hubs.all()])


@routes.put("/edgekit/dps/linkedHubs/{name}")
async def link_hub(request: web.Request) -> web.Response:
    """Link a hub, or change its weight, latency and use."""
    service = allow(request, SERVICE_CONFIG)
    hub = service.hubs.link(request.match_info["name"], await body_of(request))
    await service.committed()
    return answer(hub.resource())


@routes.delete("/edgekit/dps/linkedHubs/{name}")
async def unlink_hub(request: web.Request) -> web.Response:
    """Take a link away; its devices stay where they are."""
    service = allow(request, SERVICE_CONFIG)
    service.hubs.unlink(request.match_info["name"])
    await service.committed()
    return no_content()


@routes.put("/edgekit/dps/certificates/{name}")
async def put_certificate(request: web.Request) -> web.Response:
    """Upload an authority that enrolments can refer to by name."""
    service = allow(request, SERVICE_CONFIG)
    certificate = certificates.read((await body_of(request)).get("certificate"))
    service.keep_authority(request.match_info["name"], certificate)
    await service.committed()
    return answer(service.describe_authority(request.match_info["name"]))


@routes.get("/edgekit/dps/certificates/{name}")
async def get_certificate(request: web.Request) -> web.Response:
    """An uploaded authority."""
    service = allow(request, SERVICE_CONFIG)
    return answer(service.describe_authority(request.match_info["name"]))


@routes.get("/edgekit/dps/policies")
async def list_policies(request: web.Request) -> web.Response:
    """The shared access policies with their keys."""
    policies = allow(request, SERVICE_CONFIG).policies.values()
    return answer(
        [
            {"keyName": policy.name, "rights": sorted(policy.rights), "primaryKey": policy.keys[0]}
            for policy in policies
        ]
    )


@routes.post("/edgekit/dps/throttle")
async def throttle(request: web.Request) -> web.Response:
    """`{"requests": N, "retryAfter": S}`: answer the next N requests of devices with 429."""
    service = allow(request, SERVICE_CONFIG)
    document = await body_of(request)
    try:
        requests, retry_after = int(document["requests"]), int(document.get("retryAfter", 1))
    except (KeyError, TypeError, ValueError) as error:
        raise ProvisioningFault(BAD_REQUEST, "requests and retryAfter must be numbers.") from error
    service.throttled = (max(requests, 0), max(retry_after, 0))
    return no_content()
