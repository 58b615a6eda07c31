"""The whole line on this machine, stage after stage."""

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgekit.packager.store import Store
from edgekit.quantize.report import predictions
from edgekit.registry import Registry
from edgekit.workspace import Workspace
from edgekit_sim.demo import cloud, devices, digits, models
from edgekit_sim.demo.environment import in_environment
from edgekit_sim.demo.report import Report, Telemetry
from edgekit_sim.demo.traffic import Feeder, Ledger
from edgekit_sim.demo.watcher import Watcher
from edgekit_sim.iotedge import EdgeDevice
from edgekit_sim.iotedge.engines import pick_engine
from edgekit_sim.iothub import HubHandle
from edgekit_sim.lifeline import Lifeline

# seconds until everything that was sent must have come: reconnecting takes the SDK up to 20
ARRIVAL_SECONDS = 120.0
CACHE_VARIABLE = "EDGEKIT_DEMO_CACHE"


@dataclass(frozen=True)
class Settings:
    """How the demo is to run.

    Attributes:
        engine: `docker`, `process`, or `auto` for Docker where one answers.
        devices: how many.
        keep: folder for everything the run leaves; None for a temporary one.
    """

    engine: str = "auto"
    devices: int = 3
    keep: Path | None = None


def run(settings: Settings, watcher: Watcher) -> Report:
    """Run the line from the registered model to telemetry in the hub.

    Raises:
        EdgekitError: a part of it cannot do its work; the message says which and what to do.
    """
    began = time.monotonic()
    engine = pick_engine(settings.engine)
    example = digits.load()
    with contextlib.ExitStack() as stack:
        lifeline = stack.enter_context(Lifeline("demo", containers=engine == "docker"))
        stack.enter_context(in_environment(lifeline.environment))
        folder = stack.enter_context(_folder(settings.keep))
        cache = cache_folder()
        workspace = Workspace.create(folder / "workspace")
        registry = Registry.open(workspace)
        model = models.register(registry, example, watcher)
        int8, accuracy = models.quantized(registry, model, example, folder, watcher)
        fpga = models.compiled(registry, int8, example, watcher)
        oci_registry = stack.enter_context(cloud.oci_registry(folder / "oci"))
        store = Store(cache, cache / "locks")
        reference, image = models.image(registry, int8, store, oci_registry, watcher)
        with watcher.stage("start the hub"):
            hub = stack.enter_context(cloud.hub(folder / "hub"))
        running = stack.enter_context(
            devices.started(
                hub, settings.devices, engine, folder / "devices", folder / "pulled", watcher
            )
        )
        ready = devices.roll_out(hub, running, {str(int8.ref): reference}, watcher)
        expected = predictions(registry.model_bytes(int8.ref), {"image": example.images})
        ledger = Ledger()
        buffered = telemetry(hub, running, example.images, expected, ledger, watcher)
    return Report(
        model=str(int8.ref),
        accuracy=accuracy,
        fpga=fpga,
        image=image,
        engine={"docker": "containers", "process": "processes"}[engine],
        devices=settings.devices,
        devices_ready=ready,
        telemetry=Telemetry(
            sent=len(ledger.sent),
            buffered=buffered,
            received=len(ledger.received),
            lost=ledger.lost,
            duplicates=ledger.duplicates,
        ),
        prediction_mismatches=ledger.mismatches,
        seconds=time.monotonic() - began,
    )


def telemetry(
    hub: HubHandle,
    running: Sequence[EdgeDevice],
    images: NDArray[np.float32],
    expected: NDArray[np.int64],
    ledger: Ledger,
    watcher: Watcher,
) -> int:
    """Send every image to a device, cut the network in the middle, and account for the results.

    Before the cut the hub loses its acknowledgements, so that the devices send some results twice.

    Returns:
        The most results that were on the devices' disks during the cut.
    """
    third = len(images) // 3
    with contextlib.ExitStack() as stack:
        feeders = [
            stack.enter_context(Feeder(device.config.address, device.config.broker_port))
            for device in running
        ]
        buffers = stack.enter_context(devices.Buffers(running))

        def send(first: int, last: int, label: str) -> None:
            with watcher.stage(label, last - first) as advance:
                for index in range(first, last):
                    identifier = f"image-{index:05d}"
                    ledger.expect(identifier, int(expected[index]))
                    feeders[index % len(feeders)].send(identifier, images[index])
                    advance(1)

        send(0, third, "score images on the devices")
        _await_all(hub, ledger, watcher)
        hub.lose_acks(1.0)
        send(third, third + len(running), "lose the hub's acknowledgements")
        _await_all(hub, ledger, watcher)
        hub.partition()
        send(third + len(running), 2 * third, "cut the network, score on")
        in_the_cut = len(ledger.sent) - third
        most = buffers.wait_for(in_the_cut, ARRIVAL_SECONDS)
        watcher.found(f"{most} results wait on the devices' disks")
        hub.heal()
        send(2 * third, len(images), "heal the network, score on")
        _await_all(hub, ledger, watcher)
    return most


def _await_all(hub: HubHandle, ledger: Ledger, watcher: Watcher) -> None:
    """Read the hub's events until nothing is missing any more, or the time is over."""
    deadline = time.monotonic() + ARRIVAL_SECONDS
    with watcher.stage("receive in the hub", ledger.lost) as advance:
        while True:
            advance(ledger.take(hub.events(after=ledger.last_event)))
            if not ledger.lost or time.monotonic() > deadline:
                return
            time.sleep(0.1)


def cache_folder() -> Path:
    """Where downloads and finished layers stay from run to run; safe to delete."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "edgekit"


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="edgekit-demo-") as folder:
            yield Path(folder)
        return
    keep.mkdir(parents=True, exist_ok=True)
    yield keep.absolute()
