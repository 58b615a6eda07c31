"""The OCI distribution specification 1.1 over HTTP: pull, push, tags, referrers, delete."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType

from aiohttp import web

from edgekit_sim.ociregistry.storage import Refused, Storage, subject_of

_MANIFEST_LIMIT = 4 * 1024 * 1024
_INDEX = "application/vnd.oci.image.index.v1+json"
STORAGE = web.AppKey("storage", Storage)


def application(folder: Path) -> web.Application:
    """The registry as an aiohttp application over a folder."""
    app = web.Application(middlewares=[_errors], client_max_size=_MANIFEST_LIMIT)
    app[STORAGE] = Storage(folder)
    name = "/v2/{name:.+}"
    app.add_routes(
        [
            web.get("/v2/", _ping),
            web.get("/v2/_catalog", _catalog),
            web.get(f"{name}/tags/list", _tags),
            web.get(f"{name}/referrers/{{digest}}", _referrers),
            web.post(f"{name}/blobs/uploads/", _start),
            web.get(f"{name}/blobs/uploads/{{upload}}", _status),
            web.patch(f"{name}/blobs/uploads/{{upload}}", _append),
            web.put(f"{name}/blobs/uploads/{{upload}}", _finish),
            web.delete(f"{name}/blobs/uploads/{{upload}}", _cancel),
            web.get(f"{name}/blobs/{{digest}}", _blob),
            web.delete(f"{name}/blobs/{{digest}}", _delete_blob),
            web.get(f"{name}/manifests/{{target}}", _manifest),
            web.put(f"{name}/manifests/{{target}}", _put_manifest),
            web.delete(f"{name}/manifests/{{target}}", _delete_manifest),
        ]
    )
    return app


@asynccontextmanager
async def listening(folder: Path, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve `folder` while the block runs; yields `HOST:PORT`."""
    runner = web.AppRunner(application(folder), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield f"{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class Registry:
    """A registry in a thread of this process.

    Args:
        folder: holds everything; what was pushed is there at the next start.
        host: the address to listen on.
        port: 0 takes a free one.

    Raises:
        OSError: the address is taken, or the folder cannot be written.
    """

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 0) -> None:
        self.folder = folder
        self.address = ""
        self._where = (host, port)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="ociregistry", daemon=True)

    def __enter__(self) -> "Registry":
        self._thread.start()
        self._ready.wait()
        if self._failure:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with listening(self.folder, *self._where) as address:
            self.address = address
            self._ready.set()
            await self._stop.wait()


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        response = await handler(request)
    except Refused as error:
        value = {"errors": [{"code": error.code, "message": str(error)}]}
        response = web.json_response(value, status=error.status)
    response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
    return response


async def _ping(_request: web.Request) -> web.Response:
    return web.json_response({})


async def _catalog(request: web.Request) -> web.Response:
    return web.json_response({"repositories": request.app[STORAGE].repositories()})


async def _tags(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    tags = request.app[STORAGE].tags(name)
    last = request.query.get("last", "")
    tags = [tag for tag in tags if tag > last]
    headers = {}
    if (limit := request.query.get("n", "")).isdigit() and len(tags) > int(limit):
        tags = tags[: int(limit)]
        if tags:
            following = f"/v2/{name}/tags/list?n={limit}&last={tags[-1]}"
            headers["Link"] = f'<{following}>; rel="next"'
    return web.json_response({"name": name, "tags": tags}, headers=headers)


async def _referrers(request: web.Request) -> web.Response:
    found = request.app[STORAGE].referrers(request.match_info["name"], request.match_info["digest"])
    headers = {}
    if wanted := request.query.get("artifactType"):
        found = [each for each in found if each["artifactType"] == wanted]
        headers["OCI-Filters-Applied"] = "artifactType"
    value = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": found}
    return web.json_response(value, headers=headers, content_type=_INDEX)


def _uploading(request: web.Request, upload: str, size: int) -> dict[str, str]:
    return {
        "Location": f"/v2/{request.match_info['name']}/blobs/uploads/{upload}",
        "Docker-Upload-UUID": upload,
        "Range": f"0-{max(size - 1, 0)}",
    }


def _stored(request: web.Request, digest: str) -> web.Response:
    location = f"/v2/{request.match_info['name']}/blobs/{digest}"
    return web.Response(status=201, headers={"Location": location, "Docker-Content-Digest": digest})


async def _start(request: web.Request) -> web.Response:
    storage, name = request.app[STORAGE], request.match_info["name"]
    mount, source = request.query.get("mount"), request.query.get("from")
    if mount and source and storage.mount(name, mount, source):
        return _stored(request, mount)
    upload = storage.start_upload(name)
    if digest := request.query.get("digest"):
        await _receive(request, storage.upload(upload))
        await asyncio.to_thread(storage.finish_upload, name, upload, digest)
        return _stored(request, digest)
    return web.Response(status=202, headers=_uploading(request, upload, 0))


async def _status(request: web.Request) -> web.Response:
    upload = request.match_info["upload"]
    size = request.app[STORAGE].upload(upload).stat().st_size
    return web.Response(status=204, headers=_uploading(request, upload, size))


async def _append(request: web.Request) -> web.Response:
    upload = request.match_info["upload"]
    path = request.app[STORAGE].upload(upload)
    size = path.stat().st_size
    asked = request.headers.get("Content-Range", "")
    if asked:
        found = re.fullmatch(r"(\d+)-(\d+)", asked)
        if not found or int(found[1]) != size:
            headers = _uploading(request, upload, size)
            return web.Response(status=416, headers=headers)
    size = await _receive(request, path)
    return web.Response(status=202, headers=_uploading(request, upload, size))


async def _finish(request: web.Request) -> web.Response:
    storage, upload = request.app[STORAGE], request.match_info["upload"]
    digest = request.query.get("digest", "")
    await _receive(request, storage.upload(upload))
    await asyncio.to_thread(storage.finish_upload, request.match_info["name"], upload, digest)
    return _stored(request, digest)


async def _receive(request: web.Request, path: Path) -> int:
    """Append the body to an upload; returns how long that is now."""
    with path.open("ab") as file:
        async for piece in request.content.iter_chunked(1024 * 1024):
            file.write(piece)
        return file.tell()


async def _cancel(request: web.Request) -> web.Response:
    request.app[STORAGE].cancel_upload(request.match_info["upload"])
    return web.Response(status=204)


async def _blob(request: web.Request) -> web.StreamResponse:
    digest = request.match_info["digest"]
    path = request.app[STORAGE].blob(request.match_info["name"], digest)
    headers = {
        "Docker-Content-Digest": digest,
        "Content-Type": "application/octet-stream",
        "ETag": f'"{digest}"',
        "Cache-Control": "max-age=31536000",
    }
    # answers HEAD and Range too
    return web.FileResponse(path, headers=headers)


async def _delete_blob(request: web.Request) -> web.Response:
    request.app[STORAGE].delete_blob(request.match_info["name"], request.match_info["digest"])
    return web.Response(status=202)


async def _manifest(request: web.Request) -> web.Response:
    media_type, digest, data = request.app[STORAGE].manifest(
        request.match_info["name"], request.match_info["target"]
    )
    headers = {"Docker-Content-Digest": digest, "Content-Type": media_type, "ETag": f'"{digest}"'}
    return web.Response(body=data, headers=headers)


async def _put_manifest(request: web.Request) -> web.Response:
    name, target = request.match_info["name"], request.match_info["target"]
    data = await request.read()
    digest = request.app[STORAGE].put_manifest(name, target, request.content_type, data)
    headers = {"Location": f"/v2/{name}/manifests/{digest}", "Docker-Content-Digest": digest}
    if subject := subject_of(data):
        headers["OCI-Subject"] = subject
    return web.Response(status=201, headers=headers)


async def _delete_manifest(request: web.Request) -> web.Response:
    request.app[STORAGE].delete_manifest(request.match_info["name"], request.match_info["target"])
    return web.Response(status=202)
