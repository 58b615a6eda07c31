"""The aiohttp application that all HTTPS ports of the hub serve."""

import logging

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

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


class _InOneLine(logging.Filter):
    """Tells what a client does wrong, or that it has gone, in one line, where all is to be told."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError | ConnectionError):
            reason = " ".join(str(error).split())
            record.exc_info, record.levelno, record.levelname = None, logging.INFO, "INFO"
            record.msg, record.args = "a request that cannot be answered: %s", (reason[:200],)
            return logging.getLogger(record.name).isEnabledFor(logging.INFO)
        return True


_IN_ONE_LINE = _InOneLine()


def make_application(hub: Hub, nodes: Nodes) -> web.Application:
    """An application serving `hub`, and its AMQP nodes over WebSocket."""
    logging.getLogger("aiohttp.server").addFilter(_IN_ONE_LINE)
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
