"""The aiohttp application that all HTTPS ports of the hub serve."""

from aiohttp import web

from edgekit_sim.iothub.hub import Hub
from edgekit_sim.iothub.rest import configurations, edgekit, identities, twins, websocket
from edgekit_sim.iothub.rest.requests import BODY_LIMIT, HUB, refuse


def make_application(hub: Hub) -> web.Application:
    """An application serving `hub`."""
    application = web.Application(middlewares=[refuse], client_max_size=BODY_LIMIT)
    application[HUB] = hub
    for part in (twins, configurations, identities, edgekit, websocket):
        application.add_routes(part.routes)
    return application
