"""The provisioning service: enrolments for the service side, registration for devices by HTTP."""

import orjson
from aiohttp import web

from edgekit_sim.iothub.access import ENROLLMENT_WRITE
from edgekit_sim.iothub.client_certificates import chain_of
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.provisioning import ID_FIELDS, INDIVIDUAL, Registrant, without_secrets
from edgekit_sim.iothub.rest.requests import allow, answer, body_of, hub_of, no_content
from edgekit_sim.iothub.rest.twins import page

KIND = "{kind:enrollments|enrollmentGroups}"

routes = web.RouteTableDef()


@routes.post("/" + KIND + "/query")
async def query(request: web.Request) -> web.Response:
    """All enrolments of a kind, in pages."""
    hub, kind = allow(request, ENROLLMENT_WRITE), request.match_info["kind"]
    found: list[object] = [without_secrets(one) for one in hub.provisioning.all(kind)]
    return page(request, found, "enrollment" if kind == INDIVIDUAL else "enrollmentGroup")


@routes.post("/enrollments")
async def bulk(request: web.Request) -> web.Response:
    """Make, change or delete several individual enrolments."""
    hub = allow(request, ENROLLMENT_WRITE)
    document = await body_of(request)
    mode, errors = document.get("mode") or "create", []
    for entry in document.get("enrollments") or []:
        name = str(entry.get("registrationId") or "")
        try:
            if mode == "delete":
                hub.provisioning.delete(INDIVIDUAL, name, entry.get("etag"))
            else:
                hub.provisioning.put(INDIVIDUAL, name, entry, None)
        except HubFault as fault:
            error = {"registrationId": name, "errorCode": fault.status, "errorStatus": str(fault)}
            errors.append(error)
    await hub.store.committed()
    return answer({"isSuccessful": not errors, "errors": errors})


@routes.post("/" + KIND + "/{name}/attestationmechanism")
async def attestation(request: web.Request) -> web.Response:
    """How devices of an enrolment prove themselves, with keys."""
    hub = allow(request, ENROLLMENT_WRITE)
    found = hub.provisioning.get(request.match_info["kind"], request.match_info["name"])
    return answer(found["attestation"])


@routes.get("/" + KIND + "/{name}")
async def get_enrollment(request: web.Request) -> web.Response:
    """An enrolment, with the state of its registration."""
    hub, kind = allow(request, ENROLLMENT_WRITE), request.match_info["kind"]
    found = without_secrets(hub.provisioning.get(kind, request.match_info["name"]))
    if kind == INDIVIDUAL:
        try:
            state = hub.provisioning.registration(found[ID_FIELDS[kind]])
        except HubFault:
            state = {"registrationId": found[ID_FIELDS[kind]], "status": "unassigned"}
        found = {**found, "registrationState": state}
    return answer(found, etag=found["etag"])


@routes.put("/" + KIND + "/{name}")
async def put_enrollment(request: web.Request) -> web.Response:
    """Make or change an enrolment."""
    hub = allow(request, ENROLLMENT_WRITE)
    kind, name = request.match_info["kind"], request.match_info["name"]
    document, if_match = await body_of(request), request.headers.get("If-Match")
    kept = without_secrets(hub.provisioning.put(kind, name, document, if_match))
    await hub.store.committed()
    return answer(kept, etag=kept["etag"])


@routes.delete("/" + KIND + "/{name}")
async def delete_enrollment(request: web.Request) -> web.Response:
    """Delete an enrolment."""
    hub = allow(request, ENROLLMENT_WRITE)
    kind, name = request.match_info["kind"], request.match_info["name"]
    hub.provisioning.delete(kind, name, request.headers.get("If-Match"))
    await hub.store.committed()
    return no_content()


@routes.get("/registrations/{name}")
async def get_registration(request: web.Request) -> web.Response:
    """What became of a registration."""
    hub = allow(request, ENROLLMENT_WRITE)
    found = hub.provisioning.registration(request.match_info["name"])
    return answer(found, etag=found["etag"])


@routes.delete("/registrations/{name}")
async def delete_registration(request: web.Request) -> web.Response:
    """Forget a registration."""
    hub = allow(request, ENROLLMENT_WRITE)
    hub.provisioning.forget(request.match_info["name"], request.headers.get("If-Match"))
    await hub.store.committed()
    return no_content()


@routes.post("/registrations/{group}/query")
async def query_registrations(request: web.Request) -> web.Response:
    """What was registered under a group, in pages."""
    hub = allow(request, ENROLLMENT_WRITE)
    found: list[object] = list(hub.provisioning.registrations(request.match_info["group"]))
    return page(request, found, "deviceRegistration")


# ---- devices


@routes.put("/{scope}/registrations/{name}/register")
async def register(request: web.Request) -> web.Response:
    """A device registers."""
    registrant = _registrant(request)
    operation = registrant.register(orjson.loads(await request.read() or b"{}"))
    await hub_of(request).store.committed()
    response = answer(operation, 202)
    response.headers["Retry-After"] = "1"
    return response


@routes.get("/{scope}/registrations/{name}/operations/{operation}")
async def operation_status(request: web.Request) -> web.Response:
    """A device asks how far its registration is."""
    return answer(_registrant(request).operation(request.match_info["operation"]))


@routes.post("/{scope}/registrations/{name}")
async def own_registration(request: web.Request) -> web.Response:
    """A device asks what became of its registration."""
    registrant = _registrant(request)
    return answer(hub_of(request).provisioning.registration(registrant.name))


def _registrant(request: web.Request) -> Registrant:
    service = hub_of(request).provisioning
    if request.match_info["scope"] != service.scope:
        raise HubFault(404, "NotFound", "there is no such id scope")
    chain = chain_of(request.get_extra_info("ssl_object"))
    token = request.headers.get("Authorization")
    return service.admit(request.match_info["name"], token, chain)
