"""What every REST handler shares: the hub, the right a route needs, bodies, ETags and errors."""

import asyncio
import contextlib
import logging
import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web

from edgekit_sim.iothub.amqp.nodes import Nodes
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.faults import DELAY, THROTTLE, THROTTLED
from edgekit_sim.iothub.hub import Hub
from edgekit_sim.iothub.twins import Json, timestamp

logger = logging.getLogger(__name__)

HUB: web.AppKey[Hub] = web.AppKey("hub", Hub)
NODES: web.AppKey[Nodes] = web.AppKey("nodes", Nodes)
RETRY_SECONDS = 1
BODY_LIMIT = 2 * 1024 * 1024  # bytes of a request; a bulk call with 100 devices stays far below

# "METHOD /path" of requests that change nothing that is kept
_READS = re.compile(r"GET |HEAD |POST (/devices/query|/twins/.*/methods|/edgekit/faults)")
# of requests about one device; `/devices/query` is about none
_ADDRESS = re.compile(r"/(?:devices|twins|digitaltwins)/(?!query$)([^/]+)")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def hub_of(request: web.Request) -> Hub:
    """The hub a request is for."""
    return request.app[HUB]


def allow(request: web.Request, right: str) -> Hub:
    """Check the request's token for a right; returns the hub.

    Raises:
        HubFault: 401 or 403.
    """
    hub = hub_of(request)
    hub.gatekeeper.service(request.headers.get("Authorization"), right)
    return hub


def ids(request: web.Request) -> tuple[str, str]:
    """Device and module id of the address; "" without a module."""
    return request.match_info["device"], request.match_info.get("module", "")


async def body_of(request: web.Request) -> Json:
    """The request's body, a JSON object.

    Raises:
        HubFault: 400, when it is none.
    """
    with contextlib.suppress(orjson.JSONDecodeError):
        document = orjson.loads(await request.read())
        if isinstance(document, dict):
            return document
    raise HubFault(400, "ArgumentInvalid", "the body must be a JSON object")


def answer(document: Any, status: int = 200, etag: str = "") -> web.Response:
    """A JSON response, with the resource's ETag where it has one."""
    headers = {"ETag": f'"{etag}"'} if etag else {}
    return web.Response(
        body=orjson.dumps(document),
        status=status,
        content_type="application/json",
        charset="utf-8",
        headers=headers,
    )


def no_content() -> web.Response:
    """The response to what leaves nothing to say."""
    return web.Response(status=204)


@web.middleware
async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn errors into the bodies and headers of the real service.

    An answer goes out when everything it can tell of is on disk.
    """
    hub = hub_of(request)
    try:
        if not request.path.startswith("/edgekit/"):  # from where the faults are ended
            await _suffer(hub, request)
        if not _READS.match(f"{request.method} {request.path}"):
            hub.store.refuse_when_full()
        response = await handler(request)
        if not response.prepared:
            await hub.store.settled()
        return response
    except HubFault as fault:
        return refusal(fault)
    except web.HTTPRequestEntityTooLarge:
        return refusal(HubFault(413, "RequestEntityTooLarge", "the request is too large"))
    except web.HTTPNotFound:
        return refusal(HubFault(404, "ResourceNotFound", f"nothing is at {request.path[:200]}"))
    except web.HTTPMethodNotAllowed as error:
        return refusal(HubFault(405, "MethodNotAllowed", str(error)))


async def _suffer(hub: Hub, request: web.Request) -> None:
    """Let the faults and quotas in force have their way with a request."""
    if hub.faults.active:
        match = _ADDRESS.match(request.path)
        device_id = match[1] if match else None
        delay = hub.faults.strikes(DELAY, device_id)
        if delay is not None:
            await asyncio.sleep(max(0.0, delay.seconds))
        if hub.faults.strikes(THROTTLE, device_id):
            raise HubFault(429, "ThrottlingException", THROTTLED)
    hub.quotas.spend(request.method, request.path)


def refusal(fault: HubFault) -> web.Response:
    """An error in the shape the SDKs read."""
    tracking = f"Tracking ID:{uuid.uuid4().hex}-TimeStamp:{timestamp()}"
    document = {"Message": f"ErrorCode:{fault.code};{fault}", "ExceptionMessage": tracking}
    response = answer(document, fault.status)
    response.headers["iothub-errorcode"] = fault.code
    if fault.status in (429, 503):
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response
