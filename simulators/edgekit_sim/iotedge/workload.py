"""The workload API: what a module asks its device for instead of holding a key.

One socket for each module, as IoT Edge 1.2 and later mount them, so a module can only sign as
itself. Two of the nine operations are served, the ones the Azure SDKs call; the others, which hand
out certificates and encrypt, answer 501.
"""

import base64
import binascii
import json
import logging
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from edgekit_sim.iotedge.identities import ModuleIdentity, sign

log = logging.getLogger(__name__)

SOCKET = "workload.sock"

Lookup = Callable[[str], ModuleIdentity | None]


class Workload:
    """The sockets of a device's modules.

    Args:
        folder: one folder for each module goes in here; its path must be short, as the path of a
            Unix socket has at most 107 bytes.
        identities: finds a module's identity by name.
        trust_bundle: PEM certificates a module shall trust.
    """

    def __init__(self, folder: Path, identities: Lookup, trust_bundle: str) -> None:
        self._folder = folder
        self._identities = identities
        self._trust_bundle = trust_bundle
        self._runners: dict[str, web.AppRunner] = {}

    def folder_of(self, module: str) -> Path:
        """The folder that holds the module's socket, to be mounted into it."""
        return self._folder / module

    async def open(self, module: str) -> None:
        """Serve a module; nothing happens if it is served already."""
        if module in self._runners:
            return
        folder = self.folder_of(module)
        folder.mkdir(parents=True, exist_ok=True)
        socket = folder / SOCKET
        socket.unlink(missing_ok=True)
        runner = web.AppRunner(self._application(module), access_log=None)
        await runner.setup()
        await web.UnixSite(runner, str(socket)).start()
        # modules run as other users; which module may sign what is decided by the socket
        socket.chmod(0o666)
        self._runners[module] = runner

    async def close(self, module: str) -> None:
        """Stop serving a module that is gone."""
        runner = self._runners.pop(module, None)
        if runner is not None:
            await runner.cleanup()
            (self.folder_of(module) / SOCKET).unlink(missing_ok=True)

    async def close_all(self) -> None:
        """Stop serving."""
        for module in list(self._runners):
            await self.close(module)

    def _application(self, owner: str) -> web.Application:
        async def trust_bundle(_request: web.Request) -> web.Response:
            return web.json_response({"certificate": self._trust_bundle})

        async def signed(request: web.Request) -> web.Response:
            return await self._sign(request, owner)

        async def missing(request: web.Request) -> web.Response:
            return _error(501, f"{request.method} {request.path} is not simulated")

        application = web.Application(client_max_size=1 << 20)
        application.router.add_get("/trust-bundle", trust_bundle)
        application.router.add_post("/modules/{module}/genid/{generation}/sign", signed)
        application.router.add_route("*", "/{rest:.*}", missing)
        return application

    async def _sign(self, request: web.Request, owner: str) -> web.Response:
        """`{"keyId", "algo", "data"}`, data in base64 -> `{"digest"}`, base64 of HMAC-SHA256."""
        module, generation = request.match_info["module"], request.match_info["generation"]
        if module != owner:
            return _error(403, f"this socket is {owner}'s")
        identity = self._identities(module)
        if identity is None or identity.generation != generation:
            return _error(404, f"no module {module} of generation {generation}")
        try:
            body = json.loads(await request.read())
            if body["algo"] != "HMACSHA256":
                return _error(400, "algo is not HMACSHA256")
            data = base64.b64decode(body["data"], validate=True)
        except (ValueError, KeyError, TypeError, binascii.Error):
            return _error(400, "the body is no sign request")
        return web.json_response({"digest": sign(identity.key, data)})


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status)
