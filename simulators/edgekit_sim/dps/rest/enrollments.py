"""`/enrollments` and `/enrollmentGroups`."""

import re

from aiohttp import web

from edgekit_sim.dps.access import ENROLLMENT_READ, ENROLLMENT_WRITE
from edgekit_sim.dps.attestation import Json
from edgekit_sim.dps.enrollments import GROUP, INDIVIDUAL, Enrollment, Enrollments
from edgekit_sim.dps.errors import BAD_REQUEST, ProvisioningFault
from edgekit_sim.dps.provisioning import Provisioning
from edgekit_sim.dps.rest.requests import allow, answer, body_of, no_content, page

BULK_LIMIT = 10
BULK_MODES = ("create", "update", "updateIfMatchETag", "delete")
_QUERY = re.compile(r"\s*select\s+\*(\s+from\s+\w+)?\s*;?\s*", re.IGNORECASE)

routes = web.RouteTableDef()


@routes.get("/enrollments/{id}")
@routes.get("/enrollmentGroups/{id}")
async def get_enrollment(request: web.Request) -> web.Response:
    """An enrolment, without its keys."""
    service = allow(request, ENROLLMENT_READ)
    found = _kept(request, service).get(request.match_info["id"])
    return answer(_resource(service, found), etag=found.etag)


@routes.put("/enrollments/{id}")
@routes.put("/enrollmentGroups/{id}")
async def put_enrollment(request: web.Request) -> web.Response:
    """Create an enrolment, or with If-Match change one."""
    service = allow(request, ENROLLMENT_WRITE)
    document = await body_of(request)
    kept = _kept(request, service)
    put = kept.put(request.match_info["id"], document, request.headers.get("If-Match"))
    await service.committed()
    return answer(_resource(service, put, secrets=True), etag=put.etag)


@routes.delete("/enrollments/{id}")
@routes.delete("/enrollmentGroups/{id}")
async def delete_enrollment(request: web.Request) -> web.Response:
    """Delete an enrolment and the registration states that belong to it."""
    service = allow(request, ENROLLMENT_WRITE)
    kind = _kept(request, service).kind
    service.delete_enrollment(kind, request.match_info["id"], request.headers.get("If-Match"))
    await service.committed()
    return no_content()


@routes.post("/enrollments/{id}/attestationmechanism")
@routes.post("/enrollmentGroups/{id}/attestationmechanism")
async def attestation_mechanism(request: web.Request) -> web.Response:
    """How an enrolment's devices prove who they are, with the keys."""
    service = allow(request, ENROLLMENT_WRITE)  # keys are not for those who may only read
    found = _kept(request, service).get(request.match_info["id"])
    return answer(found.attestation.mechanism())


@routes.post("/enrollments/query")
@routes.post("/enrollmentGroups/query")
async def query(request: web.Request) -> web.Response:
    """All enrolments, in pages; `SELECT *` is all there is, as in the real service."""
    service = allow(request, ENROLLMENT_READ)
    text = (await body_of(request)).get("query")
    if not isinstance(text, str) or not _QUERY.fullmatch(text):
        raise ProvisioningFault(BAD_REQUEST, "Invalid query: SELECT * FROM enrollments is one.")
    kept = _kept(request, service)
    return page(request, [_resource(service, one) for one in kept], kept.kind)


@routes.post("/enrollments")
async def bulk(request: web.Request) -> web.Response:
    """Create, change or delete up to 10 individual enrolments; each for itself."""
    service = allow(request, ENROLLMENT_WRITE)
    document = await body_of(request)
    mode, entries = document.get("mode"), document.get("enrollments")
    if mode not in BULK_MODES:
        raise ProvisioningFault(BAD_REQUEST, f"mode {mode!r} is none of {', '.join(BULK_MODES)}.")
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise ProvisioningFault(BAD_REQUEST, "enrollments must be a list of JSON objects.")
    if not 1 <= len(entries) <= BULK_LIMIT:
        raise ProvisioningFault(BAD_REQUEST, f"One call takes 1 to {BULK_LIMIT} enrollments.")
    failed = []
    for entry in entries:
        identifier = str(entry.get("registrationId", ""))
        try:
            _bulk_one(service, str(mode), identifier, entry)
        except ProvisioningFault as fault:
            failed.append(
                {"registrationId": identifier, "errorCode": fault.code, "errorStatus": str(fault)}
            )
    await service.committed()
    return answer({"isSuccessful": not failed, "errors": failed})


def _bulk_one(service: Provisioning, mode: str, identifier: str, entry: Json) -> None:
    if mode == "delete":
        service.delete_enrollment(INDIVIDUAL, identifier, entry.get("etag"))
    elif mode == "create":
        service.enrollments.put(identifier, entry, None)
    elif mode == "update":
        service.enrollments.put(identifier, entry, "*")
    else:
        service.enrollments.put(identifier, entry, str(entry.get("etag") or ""))


def _kept(request: web.Request, service: Provisioning) -> Enrollments:
    group = request.path.lower().startswith(f"/{GROUP}s".lower())
    return service.groups if group else service.enrollments


def _resource(service: Provisioning, enrollment: Enrollment, *, secrets: bool = False) -> Json:
    """An enrolment; an individual one with the registration state of its device."""
    resource = enrollment.resource(secrets=secrets)
    if not enrollment.group:
        state = service.registrations.find(enrollment.id)
        unassigned = {"registrationId": enrollment.id, "status": "unassigned"}
        resource["registrationState"] = state.resource() if state else unassigned
    return resource
