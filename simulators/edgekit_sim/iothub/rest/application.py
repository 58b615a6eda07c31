"""The aiohttp application that all HTTPS ports of the hub serve."""

from aiohttp import web

from edgekit_sim.iothub.amqp.nodes import Nodes
from edgekit_sim.iothub.hub import Hub
from edgekit_sim.iothub.rest import (
    configurations,
    consumer_groups,
    digitaltwins,
    edgekit,
    identities,
    jobs,
    messages,
    routing,
    twins,
    uploads,
    websocket,
)
from edgekit_sim.iothub.rest.requests import BODY_LIMIT, HUB, NODES, refuse


def make_application(hub: Hub, nodes: Nodes) -> web.Application:
    """An application serving `hub`, and its AMQP nodes over WebSocket."""
    application = web.Application(middlewares=[refuse], client_max_size=BODY_LIMIT)
    application[HUB] = hub
    application[NODES] = nodes
    for part in (
        twins,
        configurations,
        consumer_groups,
        routing,
        identities,
        messages,
        uploads,
        jobs,
        digitaltwins,
        edgekit,
        websocket,
    ):
        application.add_routes(part.routes)
    return application
