"""The demo's devices: registered, tagged, started, and reached by a rollout."""

import contextlib
import json
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import as_file, files
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as mqtt

from edgekit import fleet
from edgekit_sim.demo.watcher import Watcher
from edgekit_sim.iotedge import DeviceConfig, EdgeDevice
from edgekit_sim.iothub import HubHandle

TAGS = {"site": "demo", "line": "a"}
# seconds a rollout may take on this machine: unpacking an image, starting six interpreters
ROLLOUT_SECONDS = 180.0
STATUS_TOPIC = "edgekit/telemetry/status"


@contextlib.contextmanager
def started(
    hub: HubHandle, count: int, engine: str, folder: Path, cache: Path, watcher: Watcher
) -> Iterator[Sequence[EdgeDevice]]:
    """Register `count` edge devices, tag them, and run them until the block ends."""
    azure = fleet.AzureHub(hub.service_connection_string)
    network = f"127.{64 + secrets.randbelow(63)}.{secrets.randbelow(256)}"
    devices = []
    with watcher.stage("start the devices", count) as advance, contextlib.ExitStack() as stack:
        for number in range(1, count + 1):
            name = f"line-a-{number}"
            hub.create_device(name, edge=True)
            azure.patch_tags(name, TAGS)
            state = folder / name
            state.mkdir(parents=True)
            secret = state / "connection-string"
            secret.touch(mode=0o600)
            secret.write_text(hub.device_connection_string(name))
            config = DeviceConfig(
                connection_string_file=secret,
                state=state,
                address=f"{network}.{number}",
                rest=f"https://{hub.gateway}:{hub.ports['https']}",
                ca=hub.ca_file,
                engine=engine,
                cache=str(cache),
            )
            devices.append(EdgeDevice(config))

        def start(device: EdgeDevice) -> None:
            stack.enter_context(device)
            advance(1)

        with ThreadPoolExecutor(count) as pool:
            list(pool.map(start, devices))
        running = stack.pop_all()
    with running:
        yield devices


def roll_out(
    hub: HubHandle, devices: Sequence[EdgeDevice], images: Mapping[str, str], watcher: Watcher
) -> int:
    """Plan the demo's fleet file, apply the plan, and wait until every device runs it.

    Args:
        hub: the hub the devices are registered with.
        devices: all that the fleet file targets.
        images: model reference to image reference by digest.
        watcher: sees the devices become ready.

    Returns:
        How many devices reported success.
    """
    azure = fleet.AzureHub(hub.service_connection_string)
    with as_file(files("edgekit_sim") / "demo" / "fleet.yaml") as path:
        wanted = fleet.load_fleet(path, fleet.from_table(images))
    with watcher.stage("plan and apply the fleet file"):
        made = fleet.apply(fleet.plan(wanted, azure), azure)
    watcher.found(", ".join(configuration.id for configuration in made))
    groups = [group.name for group in wanted.groups]
    succeeded = 0
    with watcher.stage("roll out to the devices", len(devices)) as advance:
        for now in fleet.watch(wanted.name, groups, azure, ROLLOUT_SECONDS, interval=0.5):
            reached = sum(group.succeeded or 0 for group in now.groups)
            advance(reached - succeeded)
            succeeded = reached
        for device in devices:
            device.wait_ready(ROLLOUT_SECONDS)
    return succeeded


class Buffers:
    """How many results lie on each device's disk, as its telemetry agent says."""

    def __init__(self, devices: Sequence[EdgeDevice]) -> None:
        self._buffered: dict[str, int] = {}
        self._changed = threading.Condition()
        self._clients = [self._listen(device) for device in devices]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for client in self._clients:
            client.disconnect()
            client.loop_stop()

    def wait_for(self, total: int, seconds: float) -> int:
        """Wait until `total` results are buffered in all; returns how many were when it ended."""
        with self._changed:
            self._changed.wait_for(lambda: sum(self._buffered.values()) >= total, seconds)
            return sum(self._buffered.values())

    def _listen(self, device: EdgeDevice) -> mqtt.Client:
        def note(_client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
            with self._changed:
                self._buffered[device.broker] = int(json.loads(message.payload)["buffered"])
                self._changed.notify_all()

        client = mqtt.Client(client_id="edgekit-demo-watch", clean_session=True)
        client.on_connect = lambda client, *_: client.subscribe(STATUS_TOPIC, 1)
        client.on_message = note
        client.connect(device.config.address, device.config.broker_port)
        client.loop_start()
        return client
