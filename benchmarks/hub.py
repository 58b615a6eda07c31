"""What the hub carries, on this machine, and how fast it starts; beside mosquitto and amqtt.

All brokers get the same load: MQTT 3.1.1, QoS 1, 128 bytes, 50 clients with up to 100 messages
under way each, from processes of our own. The hub has every message on disk before it acknowledges
it; mosquitto and amqtt keep nothing. Seconds are those of the clock and, where other programs run
on the machine, those of the processor say more. Run from the checkout's root:

    python benchmarks/hub.py [--messages 2000] [--devices 10000] [--twins 100000]
                             [--backlog 1000000] [--json]
"""

import argparse
import asyncio
import base64
import contextlib
import json
import multiprocessing
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop

from edgekit_sim.iothub import HubHandle, start_hub, tokens
from edgekit_sim.iothub.events import EventLog
from edgekit_sim.iothub.handle import START_SECONDS
from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.listeners import raise_descriptor_limit
from edgekit_sim.iothub.store import Store

CLIENTS, PROCESSES, WINDOW, PAYLOAD = 50, 2, 100, b"x" * 128
DEVICE_PROCESSES = 4  # each with an address of its own: a connection needs a port and a descriptor
IDLE_SECONDS = 5.0
STARTS = 3
COMMANDS = {
    "python -m edgekit_sim.iothub": ("-m", "edgekit_sim.iothub"),
    "edgekit sim hub": ("-m", "edgekit", "sim", "hub"),
}
Client = tuple[str, bytes]  # topic, CONNECT packet


def text(value: str) -> bytes:
    """A string with its length before it."""
    data = value.encode()
    return len(data).to_bytes(2) + data


def packet(first: int, body: bytes) -> bytes:
    """A control packet."""
    encoded, length = b"", len(body)
    while True:
        length, byte = divmod(length, 128)
        encoded += bytes((byte | 0x80 if length else byte,))
        if not length:
            return bytes((first,)) + encoded + body


class Publisher(asyncio.Protocol):
    """Sends messages as fast as they are acknowledged."""

    def __init__(self, client: Client, count: int, done: "asyncio.Future[None]") -> None:
        self._topic, self._hello = text(client[0]), client[1]
        self._count, self._done = count, done
        self._sent = self._acknowledged = 0
        self._rest, self._greeted = b"", False

    def connection_made(self, transport: Any) -> None:
        """Say hello."""
        self._transport = transport
        transport.write(self._hello)

    def data_received(self, data: bytes) -> None:
        """Count acknowledgements, four bytes each, and send as many messages."""
        data = self._rest + data
        complete = len(data) // 4
        self._rest = data[complete * 4 :]
        if not self._greeted and complete:
            assert data[3] == 0, f"refused: {data[:4]!r}"
            self._greeted, complete = True, complete - 1
            self._send(WINDOW)
        self._acknowledged += complete
        if self._acknowledged >= self._count and not self._done.done():
            self._done.set_result(None)
            self._transport.close()
        else:
            self._send(complete)

    def _send(self, number: int) -> None:
        out = []
        for _ in range(min(number, self._count - self._sent)):
            self._sent += 1
            identifier = (self._sent % 65535 + 1).to_bytes(2)
            out.append(packet(0x32, self._topic + identifier + PAYLOAD))
        if out:
            self._transport.write(b"".join(out))


async def _publish(address: str, port: int, clients: list[Client], count: int) -> None:
    loop = asyncio.get_running_loop()
    waiting = []
    for client in clients:
        done: asyncio.Future[None] = loop.create_future()
        waiting.append(done)
        await loop.create_connection(lambda c=client, d=done: Publisher(c, count, d), address, port)  # type: ignore[misc]
    await asyncio.gather(*waiting)


def _publisher(address: str, port: int, clients: list[Client], count: int) -> None:
    uvloop.run(_publish(address, port, clients, count))


def rate(address: str, port: int, clients: list[Client], count: int) -> float:
    """Messages a second that a broker acknowledges."""
    share = len(clients) // PROCESSES
    workers = [
        multiprocessing.Process(
            target=_publisher, args=(address, port, clients[n * share : (n + 1) * share], count)
        )
        for n in range(PROCESSES)
    ]
    begin = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seconds = time.perf_counter() - begin
    assert all(worker.exitcode == 0 for worker in workers), "a load process failed"
    return len(clients) * count / seconds


def hello(hub: HubHandle, device_id: str, key: str, keep_alive: int = 0) -> bytes:
    """A CONNECT packet as a device of the hub sends it."""
    resource = f"{hub.hostname}/devices/{device_id}"
    token = tokens.sign(resource, key, int(time.time()) + 3600)
    header = text("MQTT") + bytes((4, 0xC0)) + keep_alive.to_bytes(2)
    user = f"{hub.hostname}/{device_id}/?api-version=2021-04-12"
    return packet(0x10, header + text(device_id) + text(user) + text(token))


def register(hub: HubHandle, count: int, tags: bool = False) -> dict[str, str]:
    """Register devices; their keys by their ids."""
    keys = {f"d{n}": base64.b64encode(f"{n:032}".encode()).decode() for n in range(count)}
    entries = [
        {
            "id": name,
            "importMode": "create",
            "authentication": {"symmetricKey": {"primaryKey": key, "secondaryKey": key}},
            **({"tags": {"hall": number % 10, "line": number}} if tags else {}),
        }
        for number, (name, key) in enumerate(keys.items())
    ]
    for start in range(0, count, 100):
        hub.request("POST", "/devices", entries[start : start + 100])
    return keys


def hub_rate(count: int) -> float:
    """The hub's rate, with its state on disk."""
    with (
        tempfile.TemporaryDirectory() as folder,
        start_hub(folder, options=["--plain-port=0"]) as hub,
    ):
        clients = [
            (f"devices/{name}/messages/events/%24.mid=m&line=7", hello(hub, name, key))
            for name, key in register(hub, CLIENTS).items()
        ]
        found = rate(hub.gateway, hub.ports["mqtt_plain"], clients, count)
        assert hub.request("GET", f"/edgekit/events?limit=1&after={CLIENTS * count - 1}")
    return found


def broker_clients() -> list[Client]:
    """Clients of a broker that wants no names."""
    return [
        (f"bench/{n}", packet(0x10, text("MQTT") + bytes((4, 2, 0, 0)) + text(f"c{n}")))
        for n in range(CLIENTS)
    ]


@contextlib.contextmanager
def serving(program: list[str], port: int) -> Iterator[None]:
    """A broker while the block runs."""
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(int(START_SECONDS * 20)):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """A port nobody has."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def mosquitto_rate(count: int) -> float | None:
    """Mosquitto's rate; None where it is not installed."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        return None
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "mosquitto.conf"
        settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
        with serving([program, "-c", str(settings)], port):
            return rate("127.0.0.1", port, broker_clients(), count)


def amqtt_rate(count: int) -> float | None:
    """Amqtt's rate; None where it is not installed (`pip install amqtt`)."""
    found = Path(sys.executable).parent / "amqtt"
    if not found.exists():
        return None
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "amqtt.yaml"
        settings.write_text(
            f"listeners:\n  default:\n    type: tcp\n    bind: 127.0.0.1:{port}\n"
            "plugins:\n  amqtt.plugins.authentication.AnonymousAuthPlugin:\n"
            "    allow_anonymous: true\n"
        )
        program = [str(found), "-c", str(settings)]
        with serving(program, port):
            return rate("127.0.0.1", port, broker_clients(), count)


class Idle(asyncio.Protocol):
    """A device that connects and stays."""

    def __init__(self, packet_: bytes, connected: "asyncio.Future[bytes]") -> None:
        self._packet, self._connected = packet_, connected

    def connection_made(self, transport: Any) -> None:
        """Say hello."""
        transport.write(self._packet)

    def data_received(self, data: bytes) -> None:
        """The hub has answered."""
        if not self._connected.done():
            self._connected.set_result(data)


async def _connect_all(hub: HubHandle, keys: dict[str, str], address: str) -> list[Any]:
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context(cafile=hub.ca_file)
    gate = asyncio.Semaphore(50)

    async def one(name: str, key: str) -> Any:
        async with gate:
            connected: asyncio.Future[bytes] = loop.create_future()
            transport, _ = await loop.create_connection(
                lambda: Idle(hello(hub, name, key), connected),
                hub.gateway,
                hub.ports["mqtt"],
                ssl=context,
                local_addr=(address, 0),
            )
            assert (await connected)[3] == 0
            return transport

    return await asyncio.gather(*(one(name, key) for name, key in keys.items()))


def _connect(hub: HubHandle, keys: dict[str, str], address: str, ready: Any, stop: Any) -> None:
    raise_descriptor_limit()

    async def run() -> None:
        transports = await _connect_all(hub, keys, address)
        ready.release()
        await asyncio.to_thread(stop.wait)
        for transport in transports:
            transport.abort()

    uvloop.run(run())


def connected_devices(count: int) -> dict[str, float]:
    """Seconds to connect devices by TLS, and the hub's memory with all of them idle."""
    with start_hub() as hub:
        before = resident(hub)
        keys = list(register(hub, count).items())
        registered = resident(hub)
        ready, stop = multiprocessing.Semaphore(0), multiprocessing.Event()
        begin = time.perf_counter()
        workers = [
            multiprocessing.Process(
                target=_connect,
                args=(
                    _plain(hub),
                    dict(keys[number::DEVICE_PROCESSES]),
                    f"127.0.1.{number + 1}",
                    ready,
                    stop,
                ),
            )
            for number in range(DEVICE_PROCESSES)
        ]
        for worker in workers:
            worker.start()
        for _ in workers:
            assert ready.acquire(timeout=900), "a process could not connect its devices"
        seconds = time.perf_counter() - begin
        time.sleep(IDLE_SECONDS)
        found = hub.request("GET", "/statistics/service")["connectedDeviceCount"]
        memory = resident(hub)
        stop.set()
        for worker in workers:
            worker.join()
    return {
        "devices": found,
        "seconds": seconds,
        "megabytes": memory,
        "megabytes_registered": registered,
        "megabytes_empty": before,
    }


def _plain(hub: HubHandle) -> Any:
    """What a load process needs of the handle."""
    names = ("hostname", "gateway", "ports", "ca_file")
    return argparse.Namespace(**{name: getattr(hub, name) for name in names})


def resident(hub: HubHandle) -> float:
    """The hub's resident memory in MB (10^6 bytes)."""
    lines = Path(f"/proc/{hub.pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e6


def condition_seconds(count: int) -> dict[str, float]:
    """Seconds to evaluate a new and a changed target condition over twins."""
    with start_hub() as hub:
        register(hub, count, tags=True)
        content = {"deviceContent": {"properties.desired.limits": {"rate": 5}}}
        condition = "tags.hall = 3 AND tags.line < 100"
        document = {"id": "c", "content": content, "targetCondition": condition, "priority": 1}
        begin = time.perf_counter()
        hub.request("PUT", "/configurations/c", document)
        first = time.perf_counter() - begin
        document["targetCondition"] = "tags.hall = 4 AND tags.line < 100"
        begin = time.perf_counter()
        hub.request("PUT", "/configurations/c", document, if_match="*")
        return {"twins": count, "new": first, "changed": time.perf_counter() - begin}


def start(arguments: tuple[str, ...], folder: str) -> dict[str, float]:
    """Start a hub on a folder; seconds until it is ready, of the clock and of the processor."""
    command = [sys.executable, *arguments, "--json", "--bind=auto", f"--state={folder}"]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    line = process.stdout.readline()
    seconds = time.perf_counter() - begin
    assert line, "the hub did not start"
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    processor = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    process.terminate()
    process.wait()
    process.stdout.close()
    return {"seconds": seconds, "processor_seconds": processor}


def fastest(starts: list[dict[str, float]]) -> dict[str, float]:
    """The start that was disturbed least."""
    return min(starts, key=lambda one: one["seconds"])


def start_times() -> dict[str, dict[str, dict[str, float]]]:
    """First starts, with certificates to make, and later ones, of both commands."""
    found = {}
    for name, arguments in COMMANDS.items():
        first, later = [], []
        for _ in range(STARTS):
            with tempfile.TemporaryDirectory() as folder:
                first.append(start(arguments, folder))
                later.append(start(arguments, folder))
        found[name] = {"first": fastest(first), "later": fastest(later)}
    return found


def backlog(count: int) -> dict[str, float]:
    """How the hub starts on so many kept events, and what they cost."""
    with tempfile.TemporaryDirectory() as folder:

        async def fill() -> None:
            store = Store(Path(folder) / "hub.db", durable=False)
            store.start(lambda error: sys.exit(str(error)))
            log = EventLog(store)
            for number in range(count):
                log.append(Identity(f"d{number % 1000}", ""), "%24.mid=m&line=7", PAYLOAD)
                if number % 10_000 == 0:
                    await store.committed()
            await store.committed()
            store.close()

        asyncio.run(fill())
        size = sum(one.stat().st_size for one in Path(folder).iterdir()) / 1e6
        starts = fastest([start(COMMANDS["edgekit sim hub"], folder) for _ in range(STARTS)])
        with start_hub(folder) as hub:
            hub.events(count - 1)
            return {"events": count, "megabytes": size, "resident": resident(hub), **starts}


def rows(figures: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The table, line by line."""
    for command, starts in figures["start"].items():
        for which, one in starts.items():
            told = f"{one['seconds']:.2f} s ({one['processor_seconds']:.2f} s of the processor)"
            yield f"{command}, {which} start", told
    rates = figures["messages_per_second"]
    for name, value in rates.items():
        told = "not here" if value is None else f"{value:,.0f} /s"
        if value and name != "hub":
            told += f" (the hub: {rates['hub'] / value:.2f} times as many)"
        yield f"QoS 1 messages, {name}", told
    tls = figures["tls"]
    yield "devices connected by TLS", f"{tls['devices']:,} in {tls['seconds']:.1f} s"
    yield (
        "the hub's memory with them",
        (
            f"{tls['megabytes']:,.0f} MB ({tls['megabytes_registered']:,.0f} before they connected,"
            f" {tls['megabytes_empty']:,.0f} before they were registered)"
        ),
    )
    condition = figures["condition"]
    over = f"over {condition['twins']:,} twins"
    yield f"new target condition {over}", f"{condition['new']:.2f} s"
    yield f"changed target condition {over}", f"{condition['changed']:.2f} s"
    kept = figures["backlog"]
    yield (
        f"start on {kept['events']:,} events",
        (
            f"{kept['seconds']:.2f} s ({kept['processor_seconds']:.2f} s of the processor),"
            f" {kept['megabytes']:,.0f} MB on disk, {kept['resident']:,.0f} MB of memory"
        ),
    )


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=2000, help="of each of 50 clients")
    parser.add_argument("--devices", type=int, default=10_000, help="connected by TLS")
    parser.add_argument("--twins", type=int, default=100_000)
    parser.add_argument("--backlog", type=int, default=1_000_000, help="events kept at a start")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measures: dict[str, Callable[[], Any]] = {
        "start": start_times,
        "messages_per_second": lambda: {
            "hub": hub_rate(options.messages),
            "mosquitto": mosquitto_rate(options.messages),
            "amqtt": amqtt_rate(max(1, options.messages // 10)),
        },
        "tls": lambda: connected_devices(options.devices),
        "condition": lambda: condition_seconds(options.twins),
        "backlog": lambda: backlog(options.backlog),
    }
    figures = {}
    for name, measure in measures.items():
        sys.stderr.write(f"measuring {name}\n")
        figures[name] = measure()
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in rows(figures):
        print(f"{name:44}{value}")


if __name__ == "__main__":
    main()
