"""MQTT and AMQP over WebSocket: the same connections, in binary frames."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from aiohttp import WSMsgType, web

from edgekit_sim.iothub.mqtt.connection import PACKET_LIMIT
from edgekit_sim.iothub.rest.requests import NODES

AMQP = "AMQPWSB10"
# makes the protocol for a client that speaks MQTT, whichever service it is for
MQTT: web.AppKey[Callable[[], asyncio.Protocol]] = web.AppKey("mqtt")
PAUSE, RESUME = 256 * 1024, 64 * 1024  # bytes that wait when a connection holds back, goes on

routes = web.RouteTableDef()


class _Frames:
    """As much of a transport as a connection uses, over a WebSocket."""

    def __init__(
        self, socket: web.WebSocketResponse, request: web.Request, connection: asyncio.Protocol
    ) -> None:
        self._socket = socket
        self._connection = connection
        self._waiting = 0
        self._paused = False
        self._request = request
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._readable = asyncio.Event()
        self._readable.set()

    def write(self, data: bytes) -> None:
        self._queue.put_nowait(data)
        self._waiting += len(data)
        if self._waiting > PAUSE and not self._paused:
            self._paused = True
            self._connection.pause_writing()

    def close(self) -> None:
        self._queue.put_nowait(None)

    def abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()
        self.close()

    def pause_reading(self) -> None:
        self._readable.clear()

    def resume_reading(self) -> None:
        self._readable.set()

    def get_extra_info(self, name: str) -> Any:
        return self._request.get_extra_info(name)

    async def readable(self) -> None:
        await self._readable.wait()

    async def send(self) -> None:
        """Write what has been queued, until the end is."""
        while (data := await self._queue.get()) is not None:
            await self._socket.send_bytes(data)
            self._waiting -= len(data)
            if self._paused and self._waiting < RESUME:
                self._paused = False
                self._connection.resume_writing()
        await self._socket.close()


@routes.get("/$iothub/websocket")
@routes.get("/$servicebus/websocket")
async def websocket(request: web.Request) -> web.StreamResponse:
    """Serve one client, MQTT or AMQP by the subprotocol it asks for."""
    asked = request.headers.get("Sec-WebSocket-Protocol", "")
    amqp = AMQP in asked
    connection = request.app[NODES].connection() if amqp else request.app[MQTT]()
    socket = web.WebSocketResponse(protocols=(AMQP if amqp else "mqtt",), max_msg_size=PACKET_LIMIT)
    await socket.prepare(request)
    frames = _Frames(socket, request, connection)
    connection.connection_made(cast(asyncio.BaseTransport, frames))
    sender = asyncio.ensure_future(frames.send())
    try:
        async for message in socket:
            if message.type is not WSMsgType.BINARY:
                break
            connection.data_received(message.data)
            await frames.readable()
    finally:
        frames.close()
        connection.connection_lost(None)
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)
    return socket
