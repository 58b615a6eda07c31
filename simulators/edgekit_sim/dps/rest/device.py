"""The device API: `/{scope}/registrations/{id}/...`."""

from aiohttp import web

from edgekit_sim.dps.admission import Credentials
from edgekit_sim.dps.provisioning import Answer
from edgekit_sim.dps.rest.requests import answer, body_of, service_of
from edgekit_sim.iothub.client_certificates import chain_of

routes = web.RouteTableDef()


@routes.put("/{scope}/registrations/{id}/register")
async def register(request: web.Request) -> web.Response:
    """Begin to register the device that asks."""
    document = await body_of(request)
    service, who = service_of(request), request.match_info["id"]
    return _response(await service.register(who, _credentials(request), document))


@routes.get("/{scope}/registrations/{id}/operations/{operation}")
async def operation_status(request: web.Request) -> web.Response:
    """How far a registration is."""
    service, operation = service_of(request), request.match_info["operation"]
    return _response(service.status(request.match_info["id"], _credentials(request), operation))


@routes.post("/{scope}/registrations/{id}")
async def lookup(request: web.Request) -> web.Response:
    """The state of the registration of the device that asks."""
    service = service_of(request)
    return _response(service.lookup(request.match_info["id"], _credentials(request)))


def _credentials(request: web.Request) -> Credentials:
    chain = chain_of(request.get_extra_info("ssl_object"))
    return Credentials(request.match_info["scope"], request.headers.get("Authorization"), chain)


def _response(reply: Answer) -> web.Response:
    return answer(reply.document, reply.status, retry_after=reply.retry_after)
