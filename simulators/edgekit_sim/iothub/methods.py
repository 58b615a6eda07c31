"""Direct methods: a call from the service side that the device answers at once, or not at all."""

import asyncio
from typing import Any
from urllib.parse import quote

import orjson

from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.mqtt.sessions import METHODS, Sessions
from edgekit_sim.iothub.twins import Json

PAYLOAD_LIMIT = 128 * 1024
CONNECT_TIMEOUT = (0, 0, 300)  # seconds: default, least, most
RESPONSE_TIMEOUT = (30, 5, 300)


class Methods:
    """Calls under way.

    Args:
        sessions: where the devices are reached.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._calls: dict[tuple[str, str], asyncio.Future[Json]] = {}
        self._arrivals: dict[str, list[asyncio.Future[None]]] = {}
        self._last = 0

    async def invoke(self, identity: Identity, document: Json) -> Json:
        """Call a method and wait for its answer.

        Args:
            identity: the device or module that has it.
            document: `methodName`, `payload`, `responseTimeoutInSeconds`,
                `connectTimeoutInSeconds`.

        Returns:
            `{"status": int, "payload": any}`, as the device answered.

        Raises:
            HubFault: 400 for a bad document, 404 when the device is not there or does not
                listen, 504 when it does not answer in time.
        """
        name = document.get("methodName")
        if not isinstance(name, str) or not 1 <= len(name) <= 100:
            raise HubFault(400, "ArgumentInvalid", "methodName must have 1 to 100 characters")
        payload = orjson.dumps(document.get("payload"))
        if len(payload) > PAYLOAD_LIMIT:
            raise HubFault(413, "RequestEntityTooLarge", f"payload of over {PAYLOAD_LIMIT} bytes")
        connect = _seconds(document, "connectTimeoutInSeconds", CONNECT_TIMEOUT)
        response = _seconds(document, "responseTimeoutInSeconds", RESPONSE_TIMEOUT)
        await self._arrival(identity, connect)
        self._last += 1
        key = (identity.client_id, f"{self._last:x}")
        call: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._calls[key] = call
        topic = f"$iothub/methods/POST/{quote(name, safe='')}/?$rid={key[1]}"
        try:
            session = self._sessions.find(identity)
            if session is None or not session.deliver(METHODS, topic, payload, 0):
                raise _not_online(identity)
            return await asyncio.wait_for(call, response)
        except TimeoutError as error:
            raise HubFault(
                504, "GatewayTimeout", f"{identity.client_id!r} did not answer in {response} s"
            ) from error
        finally:
            del self._calls[key]

    def answer(self, client_id: str, request_id: str, status: int, payload: bytes) -> None:
        """A device's answer has come; one that nobody waits for any more is dropped."""
        call = self._calls.get((client_id, request_id))
        if call is None or call.done():
            return
        try:
            call.set_result({"status": status, "payload": orjson.loads(payload or b"null")})
        except orjson.JSONDecodeError:
            call.set_exception(HubFault(502, "BadGateway", "the device's answer is no JSON"))

    def arrived(self, client_id: str) -> None:
        """A client is connected and subscribed to its methods."""
        for future in self._arrivals.pop(client_id, []):
            if not future.done():
                future.set_result(None)

    def _listens(self, identity: Identity) -> bool:
        session = self._sessions.find(identity)
        return session is not None and session.wire is not None and METHODS in session.features

    async def _arrival(self, identity: Identity, seconds: float) -> None:
        if self._listens(identity):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrivals.setdefault(identity.client_id, []).append(future)
        try:
            await asyncio.wait_for(future, seconds)
        except TimeoutError as error:
            raise _not_online(identity) from error
        finally:
            waiting = self._arrivals.get(identity.client_id, [])
            if future in waiting:
                waiting.remove(future)


def _seconds(document: Json, name: str, bounds: tuple[int, int, int]) -> float:
    default, least, most = bounds
    value: Any = document.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise HubFault(400, "ArgumentInvalid", f"{name} must be {least} to {most}")
    return float(value)


def _not_online(identity: Identity) -> HubFault:
    return HubFault(
        404, "DeviceNotOnline", f"{identity.client_id!r} is not connected, or not to its methods"
    )
