"""Events go when they are too old or too many, and numbers go on all the same."""

import asyncio
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit_sim.iothub import SimulatorError, start_hub
from edgekit_sim.iothub.events import PARTITIONS, EventLog, partition_of
from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.retention import Retention, expire
from edgekit_sim.iothub.store import Store
from tests.edgekit_sim.iothub.mqtt_client import Raw, hello, publish

DAY = 86_400
DEVICES = [Identity(f"d{number}", "") for number in range(12)]


def fail(error: Exception) -> None:
    raise AssertionError(error)


def fill(path: Path, stream: str, count: int, body: bytes = b"x") -> None:
    """A store with a log of so many events of several devices."""

    async def run() -> None:
        store = Store(path, durable=False)
        store.start(fail)
        log = EventLog(store, stream)
        for number in range(count):
            log.append(DEVICES[number % len(DEVICES)], "", body)
        await store.committed()
        store.close()

    asyncio.run(run())


@pytest.fixture(params=["", "archive"])
def stream(request: pytest.FixtureRequest) -> str:
    """The built-in endpoint, or a stream that routes lead to."""
    return str(request.param)


def expired(path: Path, stream: str, retention: Retention, now: float) -> list[int]:
    """What of the log is left."""

    async def run() -> list[int]:
        store = Store(path, durable=False)
        store.start(fail)
        log = EventLog(store, stream)
        await expire(store, lambda: [log], retention, lambda: now)
        left = [event["sequence"] for event in log.read(0)]
        store.close()
        return left

    return asyncio.run(run())


def test_young_events_stay(tmp_path: Path, stream: str) -> None:
    fill(tmp_path / "db", stream, 100)
    left = expired(tmp_path / "db", stream, Retention(1), time.time() + DAY - 60)
    assert left == list(range(1, 101))


def test_of_old_events_the_newest_of_each_partition_stays(tmp_path: Path, stream: str) -> None:
    fill(tmp_path / "db", stream, 5000)
    left = expired(tmp_path / "db", stream, Retention(1), time.time() + DAY + 60)
    newest = {partition_of(DEVICES[n % 12].device_id): n + 1 for n in range(5000)}
    assert left == sorted(newest.values())
    assert len(left) == PARTITIONS


def test_numbers_go_on_after_everything_went(tmp_path: Path, stream: str) -> None:
    fill(tmp_path / "db", stream, 50)
    expired(tmp_path / "db", stream, Retention(1), time.time() + DAY + 60)
    fill(tmp_path / "db", stream, 1)

    async def run() -> tuple[int, int]:
        store = Store(tmp_path / "db", durable=False)
        log = EventLog(store, stream)
        _, offset, _ = log.extent(partition_of("d0"))
        return log.last, offset

    before = sum(
        partition_of(DEVICES[number % 12].device_id) == partition_of("d0") for number in range(50)
    )
    assert asyncio.run(run()) == (51, before + 1)


def test_too_many_bytes_push_the_oldest_out(tmp_path: Path, stream: str) -> None:
    fill(tmp_path / "db", stream, 9000, bytes(1000))
    left = expired(tmp_path / "db", stream, Retention(1, 5_000_000), time.time())
    assert 1 < left[0] < 9000
    store = Store(tmp_path / "db", durable=False)
    assert 1_000_000 < store.size() <= 5_000_000
    assert EventLog(store, stream).last == 9000
    store.close()


@settings(deadline=None, max_examples=60)
@given(
    moments=st.lists(st.integers(0, 50), min_size=1, max_size=60).map(sorted),
    asked=st.integers(-1, 51),
)
def test_an_offset_is_found_by_its_time(
    tmp_path_factory: pytest.TempPathFactory, moments: list[int], asked: int
) -> None:
    store = Store(tmp_path_factory.mktemp("log") / "db", durable=False)
    for number, moment in enumerate(moments, start=1):
        row = (number, 2, number, moment, "d", "", "Telemetry", "", b"")
        store._writer.execute("INSERT INTO events VALUES (?,?,?,?,?,?,?,?,?)", row)
    expected = next((n for n, m in enumerate(moments, 1) if m > asked), len(moments) + 1)
    assert EventLog(store).offset_after(2, asked) == expected
    assert EventLog(store).offset_after(1, asked) == 1
    store.close()


def test_a_hub_keeps_within_its_size(tmp_path: Path) -> None:
    with start_hub(tmp_path / "hub", options=["--retention-megabytes=2"]) as hub:
        device = Raw(hub)
        device.say(hello(hub, "d1"))
        assert device.hear(4) == b"\x20\x02\0\0"
        count = 400
        for number in range(1, count + 1):
            device.say(publish("devices/d1/messages/events/", bytes(20_000), number))
        assert len(device.hear(4 * count)) == 4 * count
        hub.stop()
        hub.start()  # at once it looks what is too much
        end = time.monotonic() + 60
        while len(hub.events()) > 150:
            assert time.monotonic() < end, "nothing is removed"
        assert hub.events()[-1]["sequence"] == count
        device.close()


@pytest.mark.parametrize("values", [(0.0, 10**7), (-1.0, 10**7), (1.0, 1000)])
def test_what_is_no_retention(values: tuple[float, int]) -> None:
    with pytest.raises(SimulatorError):
        Retention(*values)
