"""What devices sent, read with the unmodified azure-eventhub."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from azure.eventhub import EventHubConsumerClient, TransportType
from azure.eventhub.aio import EventHubConsumerClient as AsyncConsumerClient
from azure.eventhub.exceptions import EventHubError
from azure.iot.device import Message

from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.handle import HubHandle


def consumer(iothub: HubHandle, **options: Any) -> EventHubConsumerClient:
    return EventHubConsumerClient.from_connection_string(
        iothub.eventhub_connection_string, "$Default", connection_verify=iothub.ca_file, **options
    )


def receive(
    client: EventHubConsumerClient, enough: Callable[[list[Any]], bool], **options: Any
) -> list[Any]:
    """Events from all partitions until there are enough of them."""
    events: list[Any] = []
    done = threading.Event()

    def note(_context: Any, event: Any) -> None:
        events.append(event)
        if enough(events):
            done.set()

    thread = threading.Thread(
        target=client.receive, args=(note,), kwargs={"starting_position": "-1", **options}
    )
    thread.start()
    done.wait(20)
    client.close()
    thread.join(20)
    return events


def test_an_event_with_all_its_properties(iothub: HubHandle, connect: Any) -> None:
    message = Message('{"a": 1}', message_id="m-1")
    message.content_type, message.content_encoding = "application/json", "utf-8"
    message.custom_properties["line"] = "7"
    connect("eh-1").send_message(message)

    def of_device(events: list[Any]) -> list[Any]:
        name = b"iothub-connection-device-id"
        return [e for e in events if e.system_properties[name] == b"eh-1"]

    (event,) = of_device(receive(consumer(iothub), lambda events: bool(of_device(events))))
    assert event.body_as_json() == {"a": 1}
    assert event.properties == {b"line": b"7"}
    assert event.message_id == "m-1"
    assert event.content_type == "application/json"
    assert event.system_properties[b"iothub-message-source"] == b"Telemetry"
    assert event.sequence_number >= 1
    assert abs(event.enqueued_time.timestamp() - time.time()) < 60


def test_partitions_and_where_they_stand(iothub: HubHandle, connect: Any) -> None:
    client = connect("eh-2")
    for number in range(3):
        client.send_message(str(number))
    with consumer(iothub) as reader:
        assert reader.get_partition_ids() == ["0", "1", "2", "3"]
        assert reader.get_eventhub_properties()["eventhub_name"] == "edgekit-hub"
        last = [reader.get_partition_properties(p)["last_enqueued_sequence_number"] for p in "0123"]
    assert sum(last) == len(iothub.events())


def test_a_partition_from_an_offset(iothub: HubHandle, connect: Any) -> None:
    client = connect("eh-3")
    for number in range(10):
        client.send_message(str(number))
    sent = [event for event in iothub.events() if event["deviceId"] == "eh-3"]
    events = receive(
        consumer(iothub),
        lambda events: len(events) >= 4,
        partition_id=str(sent[0]["partition"]),
        starting_position=str(sent[5]["offset"]),
    )
    assert [event.body_as_str() for event in events] == ["6", "7", "8", "9"]


def test_events_come_as_they_are_sent(iothub: HubHandle, connect: Any) -> None:
    client = connect("eh-4")
    client.send_message("before")
    partition = str(next(e for e in iothub.events() if e["deviceId"] == "eh-4")["partition"])
    timer = threading.Timer(1.5, client.send_message, ("after",))
    timer.start()
    events = receive(consumer(iothub), bool, partition_id=partition, starting_position="@latest")
    timer.join()
    assert [event.body_as_str() for event in events] == ["after"]


def test_an_asynchronous_consumer(iothub: HubHandle, connect: Any) -> None:
    connect("eh-5").send_message("for aio")

    async def run() -> list[str]:
        found: list[str] = []
        aio = AsyncConsumerClient.from_connection_string(
            iothub.eventhub_connection_string, "$Default", connection_verify=iothub.ca_file
        )

        async def note(_context: Any, event: Any) -> None:
            found.append(event.body_as_str())

        task = asyncio.ensure_future(aio.receive(note, starting_position="-1"))
        for _ in range(200):
            if "for aio" in found:
                break
            await asyncio.sleep(0.05)
        await aio.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return found

    assert "for aio" in asyncio.run(run())


@pytest.mark.needs("port-443")
def test_over_websocket(iothub: HubHandle, connect: Any) -> None:
    connect("eh-6").send_message("by websocket")
    client = consumer(iothub, transport_type=TransportType.AmqpOverWebsocket, socket_timeout=1)
    events = receive(client, lambda e: any(x.body_as_str() == "by websocket" for x in e))
    assert "by websocket" in [event.body_as_str() for event in events]


def test_a_wrong_key_is_refused(iothub: HubHandle) -> None:
    key = iothub.eventhub_connection_string.split("SharedAccessKey=")[1].split(";")[0]
    wrong = iothub.eventhub_connection_string.replace(key, tokens.new_key())
    client = EventHubConsumerClient.from_connection_string(
        wrong, "$Default", connection_verify=iothub.ca_file, retry_total=0
    )
    with client, pytest.raises(EventHubError):
        client.get_partition_ids()
