"""How azure-eventhub reads: positions, groups, owner levels, checkpoints, and after a crash."""

import asyncio
import datetime
import gc
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from azure.eventhub import CheckpointStore, EventHubConsumerClient, EventHubProducerClient
from azure.eventhub.aio import EventHubConsumerClient as AsyncConsumerClient
from azure.eventhub.exceptions import EventHubError
from azure.iot.device import IoTHubDeviceClient

from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.handle import HubHandle, start_hub

# azure-eventhub and paho leave sockets to the garbage collector when they close
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SECONDS = 30.0


@dataclass(frozen=True)
class Stream:
    """What one device has sent: `0` to `5`."""

    partition: str
    events: list[dict[str, Any]]

    def __post_init__(self) -> None:
        assert [event["body"] for event in self.events] == list("012345")


def send(hub: HubHandle, device_id: str, bodies: Iterable[str]) -> None:
    """Send messages of a device, one after another."""
    hub.create_device(device_id)
    client = IoTHubDeviceClient.create_from_connection_string(
        hub.device_connection_string(device_id),
        server_verification_cert=Path(hub.ca_file).read_text(),
    )
    for body in bodies:
        client.send_message(body)
        time.sleep(0.01)
    client.shutdown()
    del client
    gc.collect()  # paho leaves its sockets to the collector


def sent_by(hub: HubHandle, device_id: str) -> list[dict[str, Any]]:
    """What the hub has of a device."""
    return [event for event in hub.events() if event["deviceId"] == device_id]


@pytest.fixture(scope="module")
def stream(iothub: HubHandle) -> Stream:
    send(iothub, "er", "012345")
    events = sent_by(iothub, "er")
    return Stream(str(events[0]["partition"]), events)


class Reader:
    """A consumer in a thread of its own, and what it has been given."""

    def __init__(
        self, hub: HubHandle, group: str = "$Default", text: str = "", **options: Any
    ) -> None:
        client_options = {
            key: options.pop(key)
            for key in ("checkpoint_store", "load_balancing_interval")
            if key in options
        }
        self.client = EventHubConsumerClient.from_connection_string(
            text or hub.eventhub_connection_string,
            group,
            retry_total=0,
            connection_verify=hub.ca_file,  # azure-eventhub looks at no environment variable
            **client_options,
        )
        self.events: list[Any] = []
        self.errors: list[Exception] = []
        self.changed = threading.Condition()
        self.thread = threading.Thread(
            target=self.client.receive,
            args=(self._event,),
            kwargs={"starting_position": "-1", "on_error": self._error, **options},
        )
        self.thread.start()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.thread.join(SECONDS)

    def _event(self, context: Any, event: Any) -> None:
        del context
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    def _error(self, context: Any, error: Exception) -> None:
        del context
        with self.changed:
            self.errors.append(error)
            self.changed.notify_all()

    def until(self, enough: Callable[[], Any]) -> "Reader":
        """Wait for events or errors."""
        with self.changed:
            self.changed.wait_for(lambda: bool(enough()), SECONDS)
        return self

    def bodies(self, count: int) -> list[str]:
        """The first bodies, and those that came with them."""
        self.until(lambda: len(self.events) >= count or self.errors)
        return [event.body_as_str() for event in self.events]


def moment(event: dict[str, Any]) -> datetime.datetime:
    return datetime.datetime.fromisoformat(event["enqueuedTime"].replace("Z", "+00:00"))


@pytest.mark.parametrize(
    ("position", "inclusive", "expected"),
    [
        (lambda _: "-1", False, "012345"),
        (lambda events: str(events[2]["offset"]), False, "345"),
        (lambda events: str(events[2]["offset"]), True, "2345"),
        (lambda events: int(events[3]["offset"]), False, "45"),
        (lambda events: int(events[3]["offset"]), True, "345"),
        (lambda events: moment(events[3]), False, "45"),
        (lambda events: moment(events[3]), True, "345"),
        (lambda _: "@latest", True, "5"),
    ],
)  # fmt: skip
def test_where_to_begin(
    iothub: HubHandle, stream: Stream, position: Any, inclusive: bool, expected: str
) -> None:
    with Reader(
        iothub,
        partition_id=stream.partition,
        starting_position=position(stream.events),
        starting_position_inclusive=inclusive,
    ) as reader:
        assert "".join(reader.bodies(len(expected))) == expected
        assert reader.errors == []


def test_groups_see_the_same_events(iothub: HubHandle, stream: Stream) -> None:
    iothub.create_consumer_group("dashboard")
    with Reader(iothub, "dashboard", partition_id=stream.partition) as reader:
        assert reader.bodies(6) == list("012345")


def test_a_group_that_is_not_there(iothub: HubHandle, stream: Stream) -> None:
    with Reader(iothub, "nobody", partition_id=stream.partition) as reader:
        reader.until(lambda: reader.errors)
    assert isinstance(reader.errors[0], EventHubError)
    assert "The consumer group 'nobody' could not be found" in str(reader.errors[0])


def test_a_partition_that_is_not_there(iothub: HubHandle) -> None:
    with Reader(iothub, partition_id="9") as reader:
        reader.until(lambda: reader.errors)
    assert "Wrong partition id:9" in str(reader.errors[0])


def test_the_higher_owner_level_reads_alone(iothub: HubHandle, stream: Stream) -> None:
    options: Any = {"partition_id": stream.partition}
    with Reader(iothub, owner_level=1, **options) as low:
        assert low.bodies(6) == list("012345")
        with Reader(iothub, owner_level=2, **options) as high:
            assert high.bodies(6) == list("012345")
            low.until(lambda: low.errors)
            assert "amqp:link:stolen" in str(low.errors[0])
            with Reader(iothub, **options) as without:
                without.until(lambda: without.errors)
                assert "amqp:link:stolen" in str(without.errors[0])


def test_a_reader_that_tracks_its_partition(iothub: HubHandle, stream: Stream) -> None:
    tracked: list[Any] = []

    def note(context: Any, event: Any) -> None:
        del event
        tracked.append(context.last_enqueued_event_properties)

    client = EventHubConsumerClient.from_connection_string(
        iothub.eventhub_connection_string, "$Default", connection_verify=iothub.ca_file
    )
    options: Any = {
        "partition_id": stream.partition,
        "starting_position": "-1",
        "track_last_enqueued_event_properties": True,
    }
    thread = threading.Thread(target=client.receive, args=(note,), kwargs=options)
    thread.start()
    end = time.monotonic() + SECONDS
    while not tracked and time.monotonic() < end:
        time.sleep(0.05)
    client.close()
    thread.join(SECONDS)
    assert tracked[0]["sequence_number"] == stream.events[-1]["offset"]
    assert tracked[0]["offset"] == str(stream.events[-1]["offset"])


class Checkpoints(CheckpointStore):  # type: ignore[misc]  # azure ships no types
    """Checkpoints and ownership in memory, for one reader at a time."""

    def __init__(self) -> None:
        self.checkpoints: dict[str, Any] = {}

    def list_ownership(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
        return []

    def claim_ownership(self, ownership_list: Any, **_: Any) -> list[dict[str, Any]]:
        return [{**one, "etag": "1", "last_modified_time": time.time()} for one in ownership_list]

    def update_checkpoint(self, checkpoint: dict[str, Any], **_: Any) -> None:
        self.checkpoints[checkpoint["partition_id"]] = checkpoint

    def list_checkpoints(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
        return list(self.checkpoints.values())


def test_a_reader_goes_on_at_its_checkpoint(iothub: HubHandle, stream: Stream) -> None:
    store = Checkpoints()
    place = {
        "fully_qualified_namespace": iothub.gateway,
        "eventhub_name": "edgekit-hub",
        "consumer_group": "$Default",
        "partition_id": stream.partition,
    }
    third = stream.events[3]
    store.update_checkpoint({**place, "offset": str(third["offset"]), "sequence_number": 0})
    with Reader(iothub, checkpoint_store=store, load_balancing_interval=1) as reader:
        reader.until(lambda: sum(one.body_as_str() in "45" for one in reader.events) >= 2)
        ours = b"iothub-connection-device-id"
        seen = [e.body_as_str() for e in reader.events if e.system_properties[ours] == b"er"]
    assert seen == ["4", "5"]


def test_without_tls_as_from_the_emulator(iothub: HubHandle, stream: Stream) -> None:
    text = f"{iothub.eventhub_connection_string};UseDevelopmentEmulator=true"
    with Reader(iothub, text=text, partition_id=stream.partition) as reader:
        assert reader.bodies(6) == list("012345")


def fields_of(hub: HubHandle) -> dict[str, str]:
    return dict(part.split("=", 1) for part in hub.eventhub_connection_string.split(";"))


def signed(hub: HubHandle, seconds: int, policy: str | None = None) -> str:
    """A connection string with a token instead of a key."""
    fields = fields_of(hub)
    resource = f"sb://{hub.gateway}/edgekit-hub"
    expiry = int(time.time()) + seconds
    name = policy or fields["SharedAccessKeyName"]
    token = tokens.sign(resource, fields["SharedAccessKey"], expiry, name)
    return f"Endpoint={fields['Endpoint']};EntityPath=edgekit-hub;SharedAccessSignature={token}"


def test_a_token_instead_of_a_key(iothub: HubHandle, stream: Stream) -> None:
    with Reader(iothub, text=signed(iothub, 600), partition_id=stream.partition) as reader:
        assert reader.bodies(6) == list("012345")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (lambda hub: signed(hub, 600, "registryRead"), "signature"),
        (lambda hub: signed(hub, 600, "nobody"), "no shared access policy"),
        (
            lambda hub: hub.eventhub_connection_string.replace(
                "EntityPath=edgekit-hub", "EntityPath=other"
            ),
            "no event hub 'other'",
        ),
    ],
)
def test_who_may_not_read(iothub: HubHandle, text: Callable[[HubHandle], str], why: str) -> None:
    client = EventHubConsumerClient.from_connection_string(
        text(iothub), "$Default", retry_total=0, connection_verify=iothub.ca_file
    )
    with client, pytest.raises(EventHubError, match=why):
        client.get_eventhub_properties()


def test_an_asynchronous_reader_with_a_wrong_key(iothub: HubHandle) -> None:
    text = iothub.eventhub_connection_string
    text = text.replace(fields_of(iothub)["SharedAccessKey"], tokens.new_key())

    async def run() -> None:
        aio = AsyncConsumerClient.from_connection_string(
            text, "$Default", retry_total=0, connection_verify=iothub.ca_file
        )
        async with aio:
            await aio.get_partition_ids()

    with pytest.raises(EventHubError, match="signature"):
        asyncio.run(run())


def test_an_asynchronous_reader_of_one_partition(iothub: HubHandle, stream: Stream) -> None:
    async def run() -> list[str]:
        aio = AsyncConsumerClient.from_connection_string(
            iothub.eventhub_connection_string, "$Default", connection_verify=iothub.ca_file
        )
        found: list[str] = []
        enough = asyncio.Event()

        async def note(_context: Any, event: Any) -> None:
            found.append(event.body_as_str())
            if len(found) == 3:
                enough.set()

        async with aio:
            assert await aio.get_partition_ids() == ["0", "1", "2", "3"]
            work = aio.receive(
                note,
                partition_id=stream.partition,
                starting_position=str(stream.events[2]["offset"]),
            )
            task = asyncio.ensure_future(work)
            await asyncio.wait_for(enough.wait(), SECONDS)
            task.cancel()  # else it sleeps on until it would look for partitions again
            await asyncio.gather(task, return_exceptions=True)
        return found

    assert asyncio.run(run()) == ["3", "4", "5"]


def test_what_an_asynchronous_reader_asks(iothub: HubHandle, stream: Stream) -> None:
    async def run() -> tuple[Any, Any, list[str]]:
        aio = AsyncConsumerClient.from_connection_string(
            iothub.eventhub_connection_string, "$Default", connection_verify=iothub.ca_file
        )
        found: list[str] = []
        enough = asyncio.Event()

        async def note(_context: Any, events: list[Any]) -> None:
            found.extend(event.body_as_str() for event in events)
            if len(found) >= 6:
                enough.set()

        async with aio:
            entity = await aio.get_eventhub_properties()
            partition = await aio.get_partition_properties(stream.partition)
            first = str(stream.events[0]["offset"] - 1)
            work = aio.receive_batch(
                note, partition_id=stream.partition, starting_position=first, max_wait_time=1
            )
            task = asyncio.ensure_future(work)
            await asyncio.wait_for(enough.wait(), SECONDS)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        return entity, partition, found

    entity, partition, found = asyncio.run(run())
    assert entity["partition_ids"] == ["0", "1", "2", "3"]
    assert partition["last_enqueued_offset"] >= str(stream.events[-1]["offset"])
    assert found[:6] == ["0", "1", "2", "3", "4", "5"]


@pytest.fixture
def producer(iothub: HubHandle) -> Iterator[EventHubProducerClient]:
    producer = EventHubProducerClient.from_connection_string(
        iothub.eventhub_connection_string, retry_total=0, connection_verify=iothub.ca_file
    )
    yield producer
    producer.close()


def test_nobody_sends_to_the_endpoint(producer: EventHubProducerClient) -> None:
    with pytest.raises(EventHubError, match="could not be found"):
        producer.send_batch(producer.create_batch())


def test_what_a_producer_may_ask_all_the_same(producer: EventHubProducerClient) -> None:
    partitions = producer.get_partition_ids()
    assert producer.get_eventhub_properties()["partition_ids"] == partitions
    assert [producer.get_partition_properties(one)["id"] for one in partitions] == partitions


def test_modules_are_named(iothub: HubHandle, connect: Any) -> None:
    connect("er-edge", "camera").send_message_to_output("hello", "output1")
    (event,) = sent_by(iothub, "er-edge")
    with Reader(
        iothub, partition_id=str(event["partition"]), starting_position=str(event["offset"] - 1)
    ) as reader:
        assert reader.bodies(1)[0] == "hello"
    properties = reader.events[0].system_properties
    assert properties[b"iothub-connection-module-id"] == b"camera"
    assert properties[b"iothub-output-name"] == b"output1"
    assert b'"scope":"module"' in properties[b"iothub-connection-auth-method"]


def test_a_reader_goes_on_after_kill(tmp_path: Path) -> None:
    with start_hub(tmp_path / "hub") as hub:
        hub.create_consumer_group("survivor")
        send(hub, "er", "012345")
        partition = str(sent_by(hub, "er")[0]["partition"])
        with Reader(hub, "survivor", partition_id=partition) as reader:
            assert reader.bodies(6) == list("012345")
        third = reader.events[3]
        hub.kill()
        hub.start()
        send(hub, "er", "678")
        with Reader(
            hub, "survivor", partition_id=partition, starting_position=third.offset
        ) as reader:
            assert reader.bodies(5) == list("45678")
        numbers = [event.sequence_number for event in reader.events]
        assert numbers == list(range(third.sequence_number + 1, third.sequence_number + 6))
