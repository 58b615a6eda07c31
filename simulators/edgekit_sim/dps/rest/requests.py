"""What every handler shares: the service, bodies, ETags, pages and the shape of errors."""

import base64
import binascii
import contextlib
import functools
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
from aiohttp import web

from edgekit_sim.dps.attestation import Json
from edgekit_sim.dps.errors import BAD_REQUEST, ProvisioningFault
from edgekit_sim.dps.provisioning import Provisioning
from edgekit_sim.iothub.twins import timestamp

SERVICE: web.AppKey[Provisioning] = web.AppKey("provisioning", Provisioning)
PAGE = 100  # items of an answer unless the request names a number
PAGE_LIMIT = 1000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def service_of(request: web.Request) -> Provisioning:
    """The provisioning service a request is for."""
    return request.app[SERVICE]


def allow(request: web.Request, right: str) -> Provisioning:
    """Check the request's token for a right; returns the service.

    Raises:
        ProvisioningFault: 401 or 403.
    """
    service = service_of(request)
    service.allow(request.headers.get("Authorization"), right)
    return service


async def body_of(request: web.Request) -> Json:
    """The request's body, a JSON object.

    Raises:
        ProvisioningFault: 400, when it is none.
    """
    with contextlib.suppress(orjson.JSONDecodeError):
        document = orjson.loads(await request.read())
        if isinstance(document, dict):
            return document
    raise ProvisioningFault(BAD_REQUEST, "The body must be a JSON object.")


def answer(document: Any, status: int = 200, etag: str = "", retry_after: int = 0) -> web.Response:
    """A JSON response with the headers that the SDKs read."""
    headers = {"x-ms-request-id": str(uuid.uuid4())}
    if etag:
        headers["ETag"] = f'"{etag}"'
    if retry_after:
        headers["Retry-After"] = str(retry_after)
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


def page(request: web.Request, items: Sequence[Json], kind: str) -> web.Response:
    """One page of items; a continuation token names where the next begins.

    Raises:
        ProvisioningFault: 400, for a token or page size that cannot be.
    """
    sent = request.headers.get("x-ms-continuation", "")
    size = request.headers.get("x-ms-max-item-count", "") or str(PAGE)
    try:
        start = int(base64.b64decode(sent, validate=True)) if sent else 0
    except (ValueError, binascii.Error) as error:
        raise ProvisioningFault(BAD_REQUEST, "Invalid continuation token.") from error
    if not size.isdigit() or not 1 <= int(size) <= PAGE_LIMIT:
        raise ProvisioningFault(
            BAD_REQUEST, f"Invalid x-ms-max-item-count: 1 to {PAGE_LIMIT} are allowed."
        )
    end = start + int(size)
    response = answer(items[max(start, 0) : end])
    response.headers["x-ms-item-type"] = kind
    response.headers["x-ms-max-item-count"] = size
    if end < len(items):
        response.headers["x-ms-continuation"] = base64.b64encode(str(end).encode()).decode()
    return response


def error_document(fault: ProvisioningFault) -> Json:
    """A ProvisioningServiceErrorDetails."""
    return {
        "errorCode": fault.code,
        "trackingId": str(uuid.uuid4()),
        "message": str(fault),
        "timestampUtc": timestamp(),
    }


def guarded(handler: Handler) -> Handler:
    """The handler, answering faults in the words of this service, not of the hub."""

    @functools.wraps(handler)
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except ProvisioningFault as fault:
            return answer(error_document(fault), fault.status, retry_after=fault.retry_after)

    return handle
