"""`/jobs`: import and export, and scheduled jobs under `/jobs/v2`."""

import uuid

from aiohttp import web

from edgekit_sim.iothub.access import REGISTRY_WRITE, SERVICE_CONNECT
from edgekit_sim.iothub.jobs import EXPORT, IMPORT, METHOD, UPDATE_TWIN
from edgekit_sim.iothub.rest.requests import allow, answer, body_of

routes = web.RouteTableDef()


@routes.get("/jobs/v2/query")
async def query_jobs(request: web.Request) -> web.Response:
    """Scheduled jobs, of one type or in one state if asked for."""
    jobs = allow(request, SERVICE_CONNECT).jobs.all((UPDATE_TWIN, METHOD))
    kind, status = request.query.get("jobType"), request.query.get("jobStatus")
    found = [
        job
        for job in jobs
        if (not kind or job["type"].lower() == kind.lower())
        and (not status or job["status"].lower() == status.lower())
    ]
    return answer({"type": "jobResponse", "items": found, "continuationToken": None})


@routes.put("/jobs/v2/{job}")
async def schedule(request: web.Request) -> web.Response:
    """Make a scheduled job."""
    hub = allow(request, SERVICE_CONNECT)
    job = hub.jobs.schedule(request.match_info["job"], await body_of(request))
    return answer(job)


@routes.get("/jobs/v2/{job}")
@routes.get("/jobs/{job}")
async def get_job(request: web.Request) -> web.Response:
    """A job and how far it is."""
    return answer(allow(request, SERVICE_CONNECT).jobs.get(request.match_info["job"]))


@routes.post("/jobs/v2/{job}/cancel")
@routes.delete("/jobs/{job}")
async def cancel(request: web.Request) -> web.Response:
    """End a job before its time."""
    hub = allow(request, SERVICE_CONNECT)
    job = hub.jobs.cancel(request.match_info["job"])
    return answer(job)


@routes.post("/jobs/create")
async def transfer(request: web.Request) -> web.Response:
    """Begin an import or export."""
    hub = allow(request, REGISTRY_WRITE)
    document = await body_of(request)
    job = hub.jobs.transfer(str(document.get("jobId") or uuid.uuid4()), document)
    return answer(job)


@routes.get("/jobs")
async def transfers(request: web.Request) -> web.Response:
    """All imports and exports."""
    return answer(allow(request, REGISTRY_WRITE).jobs.all((EXPORT, IMPORT)))
