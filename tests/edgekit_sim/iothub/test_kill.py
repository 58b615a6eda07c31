"""kill -9 under full load, and a disk that fills up: what was acknowledged is there."""

import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from edgekit_sim.iothub import HubHandle, start_hub
from edgekit_sim.iothub.handle import python_path
from tests.edgekit_sim.iothub.mqtt_client import Raw, hello, packet, publish, text

KILLS = int(os.environ.get("EDGEKIT_TEST_KILLS", "5"))
DEVICES = 4
FULL = "no room for the hub's state"
AGAIN = "there is room again"


@contextmanager
def load(hub: HubHandle) -> Iterator[Callable[[], dict[str, Any]]]:
    """Full load while the block runs; gives a function that ends it and tells the outcome."""
    program = [sys.executable, "-m", "tests.edgekit_sim.iothub.load"]
    process = subprocess.Popen(
        [*program, str(hub.state_dir), str(DEVICES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([python_path(), *sys.path])},
    )

    def end() -> dict[str, Any]:
        told, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        return dict(json.loads(told))

    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield end
    finally:
        process.kill()
        process.communicate()


@pytest.mark.timeout(120 + 20 * KILLS)
def test_kill_under_load_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    chosen = random.Random(KILLS)
    with start_hub(tmp_path / "hub") as hub, load(hub) as end:
        for _ in range(KILLS):
            time.sleep(chosen.uniform(0.2, 1.5))
            hub.kill()
            hub.start()
        time.sleep(1.0)
        hub.kill()
        hub.start()
        told = end()
        stored = numbers_by_device(hub)
        for name, one in told.items():
            assert set(one["telemetry"]) - stored[name] == set()
            assert len(one["telemetry"]) > 100 * KILLS
            twin = hub.request("GET", f"/twins/{name}")["properties"]
            for section in ("reported", "desired"):
                check_versions(one[section], twin[section])


def numbers_by_device(hub: HubHandle) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for event in hub.events():
        found.setdefault(event["deviceId"], set()).add(int(event["body"]))
    return found


def check_versions(acknowledged: list[Any], section: dict[str, Any]) -> None:
    """No version was given to two changes, and the last one is not older than what was told."""
    assert len(acknowledged) > KILLS
    values = dict(acknowledged)
    assert [version for version, numbers in values.items() if len(numbers) != 1] == []
    last = max(values)
    assert section["$version"] >= last
    assert section["n"] >= values[last][0]
    if section["$version"] == last:
        assert section["n"] == values[last][0]


# ---- a full disk


class Disk:
    """A disk for a hub's state that can be filled up.

    Attributes:
        folder: where the state is.
        fill: leaves no room, or hardly any.
        clear: makes room again.
    """

    def __init__(
        self, folder: Path, fill: Callable[[int], None], clear: Callable[[int], None]
    ) -> None:
        self.folder, self.fill, self.clear = folder, fill, clear


@contextmanager
def quota(folder: Path) -> Iterator[Disk]:
    """No file of the hub's process may grow beyond some bytes: no root needed."""

    def limit(pid: int) -> None:
        size = (folder / "hub.db-wal").stat().st_size + 100_000
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def clear(pid: int) -> None:
        free = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, free)

    yield Disk(folder, limit, clear)


@contextmanager
def small_file_system(folder: Path) -> Iterator[Disk]:
    """A file system in memory, of 8 MB."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
    ballast = folder / "ballast"

    def fill(_pid: int) -> None:
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                return

    def clear(_pid: int) -> None:
        ballast.unlink()

    try:
        yield Disk(folder, fill, clear)
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture(
    params=[
        quota,
        pytest.param(small_file_system, marks=pytest.mark.needs("mount")),
    ]
)
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    with request.param(tmp_path / "hub") as disk:
        yield disk


def patch(hub: HubHandle, device_id: str) -> requests.Response:
    """The hub's answer to a change from the service side."""
    return requests.patch(
        f"https://{hub.rest_host}/twins/{device_id}",
        json={"tags": {"a": 1}},
        headers={"Authorization": hub.service_token()},
        verify=hub.ca_file,
        timeout=20,
    )


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end, "waited for a minute"


def test_a_full_disk_is_waited_for(disk: Disk) -> None:
    with start_hub(disk.folder) as hub:
        device, reporter = Raw(hub), Raw(hub)
        device.say(hello(hub, "full"))
        reporter.say(hello(hub, "reporter"))
        assert device.hear(4) == reporter.hear(4) == b"\x20\x02\0\0"
        reporter.say(packet(0x82, b"\0\1" + text("$iothub/twin/res/#") + b"\0"))
        assert reporter.hear(5) == b"\x90\x03\0\1\0"
        before = hub.request("GET", "/twins/reporter")
        sent = 0

        def send() -> None:
            nonlocal sent
            sent += 1
            device.say(publish("devices/full/messages/events/", b"%08d" % sent * 2000, sent))

        def is_full() -> bool:
            send()
            return patch(hub, "full").status_code == 503

        disk.fill(hub.pid)
        until(is_full)
        refused = patch(hub, "reporter")
        assert refused.status_code == 503
        assert refused.headers["iothub-errorcode"] == "ServiceUnavailable"
        topic = "$iothub/twin/PATCH/properties/reported/?$rid=7"
        reporter.say(packet(0x30, text(topic) + b'{"n": 1}'))
        assert reporter.hear(30)[4:] == b"$iothub/twin/res/503/?$rid"
        assert hub.request("GET", "/twins/reporter") == before
        stored = len(hub.events())
        assert stored < sent
        disk.clear(hub.pid)
        until(lambda: patch(hub, "full").status_code == 200)
        acknowledged = device.hear(4 * sent)
        assert acknowledged == b"".join(b"\x40\x02" + n.to_bytes(2) for n in range(1, sent + 1))
        hub.kill()
        hub.start()
        assert [int(event["body"][:8]) for event in hub.events()] == list(range(1, sent + 1))
        hub.request("PATCH", "/twins/reporter", {"tags": {"a": 1}})
        device.close()
        reporter.close()


def test_a_full_disk_is_told_of_once_and_its_end_too(tmp_path: Path) -> None:
    with quota(tmp_path / "hub") as disk, start_hub(disk.folder) as hub:
        hub.create_device("d1")
        disk.fill(hub.pid)
        until(lambda: patch(hub, "d1").status_code == 503)
        assert patch(hub, "d1").status_code == 503
        disk.clear(hub.pid)
        until(lambda: patch(hub, "d1").status_code == 200)
        hub.stop()
        told = (disk.folder / "hub.log").read_text().splitlines()
        assert [FULL in told[0], AGAIN in told[1], len(told)] == [True, True, 2]


def test_kill_on_a_full_disk_keeps_what_was_acknowledged(disk: Disk) -> None:
    with start_hub(disk.folder) as hub:
        device = Raw(hub)
        device.say(hello(hub, "full"))
        assert device.hear(4) == b"\x20\x02\0\0"
        disk.fill(hub.pid)
        numbers = iter(range(1, 60_000))

        def is_full() -> bool:
            number = next(numbers)
            device.say(publish("devices/full/messages/events/", b"%08d" % number * 2000, number))
            return patch(hub, "full").status_code == 503

        until(is_full)
        hub.kill()
        heard = device.hear(4 * 60_000)
        acknowledged = {int.from_bytes(heard[at + 2 : at + 4]) for at in range(0, len(heard), 4)}
        disk.clear(os.getpid())
        hub.start()
        assert acknowledged - {int(event["body"][:8]) for event in hub.events()} == set()
        device.close()


def words_of_a_hub_that_cannot_start(folder: Path) -> str:
    program = [sys.executable, "-m", "edgekit_sim.iothub", "--bind=auto", f"--state={folder}"]
    environment = {**os.environ, "PYTHONPATH": python_path()}
    ended = subprocess.run(program, capture_output=True, text=True, timeout=60, env=environment)
    assert (ended.returncode, ended.stdout) == (1, "")
    return ended.stderr


@pytest.mark.needs("mount")
def test_a_disk_that_is_full_from_the_start_is_told_in_one_line(tmp_path: Path) -> None:
    with small_file_system(tmp_path / "hub") as disk:
        disk.fill(0)
        told = words_of_a_hub_that_cannot_start(disk.folder)
        assert "No space left on device" in told
        assert told.count("\n") == 1


def test_a_state_that_is_no_database_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "hub.db").write_bytes(b"something else" * 1000)
    told = words_of_a_hub_that_cannot_start(tmp_path)
    assert "file is not a database" in told
    assert told.count("\n") == 1
    assert (tmp_path / "hub.db").read_bytes() == b"something else" * 1000
