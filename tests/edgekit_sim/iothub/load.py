"""Load on a hub from a process of its own, which remembers all that was acknowledged.

    python -m tests.edgekit_sim.iothub.load STATE_DIR DEVICES

Each device sends telemetry and reported properties as fast as they are acknowledged, and the
service patches its desired properties. Connections that break are made again. When standard input
ends, what was acknowledged is printed as JSON: by device the numbers of its messages, and for
reported and desired properties the number that each version was acknowledged, or delivered, with.
"""

import asyncio
import json
import re
import ssl
import sys
from pathlib import Path
from typing import Any

import aiohttp

from edgekit_sim.iothub import HubClient, find_hub
from tests.edgekit_sim.iothub.mqtt_client import hello, packet, publish, text

WINDOW = 100  # messages under way
PAUSE = 0.05  # seconds before a lost connection is made again
_REPORTED = re.compile(r"\$iothub/twin/res/204/\?\$rid=(\d+)&\$version=(\d+)")
_DESIRED = re.compile(r"\$iothub/twin/PATCH/properties/desired/\?\$version=(\d+)")


class Device:
    """One device, and the service's interest in it.

    Attributes:
        telemetry: numbers of acknowledged messages.
        reported: the version of an acknowledged patch, and the numbers it was said to have.
        desired: the same of what the service patched, and of what the device was told.
    """

    def __init__(self, hub: HubClient, name: str) -> None:
        self.name = name
        self.telemetry: list[int] = []
        self.reported: dict[int, set[int]] = {}
        self.desired: dict[int, set[int]] = {}
        self._hub = hub
        self._hello = hello(hub, name, expiry=3600)
        self._sent = self._patched = 0
        self._under_way: dict[int, int] = {}

    async def run(self, context: ssl.SSLContext) -> None:
        """Send for ever, over as many connections as it takes."""
        while True:
            try:
                await self._connection(context)
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(PAUSE)

    async def _connection(self, context: ssl.SSLContext) -> None:
        address = self._hub.gateway, self._hub.ports["mqtt"]
        reader, writer = await asyncio.open_connection(*address, ssl=context)
        try:
            filters = ("$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#")
            body = b"\0\1" + b"".join(text(one) + b"\1" for one in filters)
            writer.write(self._hello + packet(0x82, body))
            self._under_way = {}
            self._send(writer, WINDOW)
            self._report(writer)
            while True:
                self._packet(writer, *await _read(reader))
                if writer.is_closing():
                    raise ConnectionResetError
                await writer.drain()
        finally:
            writer.close()

    def _send(self, writer: asyncio.StreamWriter, count: int) -> None:
        for _ in range(count):
            self._sent += 1
            packet_id = self._sent % 65535 + 1
            self._under_way[packet_id] = self._sent
            topic = f"devices/{self.name}/messages/events/"
            writer.write(publish(topic, str(self._sent).encode(), packet_id))

    def _report(self, writer: asyncio.StreamWriter) -> None:
        self._patched += 1
        topic = f"$iothub/twin/PATCH/properties/reported/?$rid={self._patched}"
        writer.write(packet(0x30, text(topic) + b'{"n": %d}' % self._patched))

    def _packet(self, writer: asyncio.StreamWriter, first: int, body: bytes) -> None:
        if first >> 4 == 4:
            self.telemetry.append(self._under_way.pop(int.from_bytes(body)))
            self._send(writer, 1)
        if first >> 4 != 3:
            return
        end = 2 + int.from_bytes(body[:2])
        topic = body[2:end].decode()
        if match := _REPORTED.fullmatch(topic):
            self.reported.setdefault(int(match[2]), set()).add(int(match[1]))
            self._report(writer)
        elif match := _DESIRED.fullmatch(topic):
            writer.write(packet(0x40, body[end : end + 2]))
            self._note(int(match[1]), json.loads(body[end + 2 :]))

    def _note(self, version: int, desired: dict[str, Any]) -> None:
        self.desired.setdefault(version, set()).add(desired["n"])

    async def patch(self, session: aiohttp.ClientSession, token: str) -> None:
        """Patch the desired properties for ever, from the service side."""
        number, url = 0, f"https://{self._hub.rest_host}/twins/{self.name}"
        while True:
            number += 1
            document = {"properties": {"desired": {"n": number}}}
            try:
                async with session.patch(
                    url, json=document, headers={"Authorization": token}
                ) as answer:
                    answer.raise_for_status()
                    desired = (await answer.json())["properties"]["desired"]
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(PAUSE)
            else:
                self._note(desired["$version"], desired)

    def acknowledged(self) -> dict[str, Any]:
        """What a hub must know for ever."""
        versions = {"reported": self.reported, "desired": self.desired}
        told = {name: [[v, sorted(n)] for v, n in one.items()] for name, one in versions.items()}
        return {"telemetry": self.telemetry, **told}


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return first, await reader.readexactly(length)


async def _load(hub: HubClient, devices: list[Device]) -> None:
    context = ssl.create_default_context(cafile=hub.ca_file)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        work = [asyncio.ensure_future(device.run(context)) for device in devices]
        work += [asyncio.ensure_future(d.patch(session, hub.service_token())) for d in devices]
        end = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
        done, _ = await asyncio.wait([end, *work], return_when=asyncio.FIRST_COMPLETED)
        for one in work:
            one.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        for one in done:
            one.result()  # a device does not end by itself: its error is ours


def main() -> None:
    hub = find_hub(Path(sys.argv[1]))
    devices = [Device(hub, f"load-{number}") for number in range(int(sys.argv[2]))]
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    asyncio.run(_load(hub, devices))
    json.dump({device.name: device.acknowledged() for device in devices}, sys.stdout)


if __name__ == "__main__":
    main()
