"""Feedback received with uamqp, as azure-iot-hub's users do; and large commands."""

import json
import queue
from collections.abc import Iterator
from typing import Any

import pytest
import uamqp
from azure.iot.hub import IoTHubRegistryManager

from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.handle import HubHandle
from tests.edgekit_sim.iothub.amqp_client import AmqpClient, token
from tests.edgekit_sim.iothub.receiver import FEEDBACK, Receiver

SECONDS = 20.0

# paho and uamqp leave sockets to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def receive(iothub: HubHandle) -> Iterator[Receiver]:
    receiver = Receiver(iothub, FEEDBACK)
    yield receiver
    receiver.close()


def refused(hub: HubHandle, device_id: str, message_id: str) -> None:
    """Send a command that ends with feedback: it has expired when it comes."""
    hub.create_device(device_id)
    registry = IoTHubRegistryManager.from_connection_string(hub.service_connection_string)
    properties = {"iothub-ack": "negative", "messageId": message_id, "expiryTimeUtc": 1}
    registry.send_c2d_message(device_id, "too late", properties)


def records(message: Any) -> list[dict[str, Any]]:
    found = json.loads(b"".join(message.get_data()))
    assert isinstance(found, list)
    return found


def test_feedback_is_received_once_when_accepted(iothub: HubHandle, receive: Receiver) -> None:
    refused(iothub, "fb-1", "m-1")
    (message,) = receive()
    (record,) = records(message)
    assert (record["originalMessageId"], record["statusCode"]) == ("m-1", "Expired")
    assert message.properties.content_type == b"application/vnd.microsoft.iothub.feedback.json"
    message.accept()
    receive.close()
    assert iothub.request("GET", "/messages/serviceBound/feedback") is None


def test_feedback_that_is_released_comes_again(iothub: HubHandle, receive: Receiver) -> None:
    refused(iothub, "fb-2", "m-2")
    (message,) = receive()
    message.release()
    (again,) = receive()
    assert records(again) == records(message)
    again.accept()


def test_feedback_of_a_receiver_that_vanishes_comes_again(
    iothub: HubHandle, receive: Receiver
) -> None:
    refused(iothub, "fb-3", "m-3")
    with AmqpClient(iothub) as client:
        assert client.put_token(token(iothub)) == 200
        handle, _ = client.attach("messages/servicebound/feedback", True, settled=False)
        client.credit(handle, 1)
        assert b"m-3" in client.message().body
    (message,) = receive()
    assert records(message)[0]["originalMessageId"] == "m-3"
    message.accept()


def test_feedback_outlives_kill_minus_nine(iothub: HubHandle, receive: Receiver) -> None:
    refused(iothub, "fb-4", "m-4")
    iothub.kill()
    iothub.start()
    (message,) = receive()
    assert records(message)[0]["originalMessageId"] == "m-4"
    message.accept()


def test_a_command_of_many_frames(iothub: HubHandle, connect: Any) -> None:
    registry = IoTHubRegistryManager.from_connection_string(iothub.service_connection_string)
    client = connect("fb-large")
    messages: queue.Queue[Any] = queue.Queue()
    client.on_message_received = messages.put
    body = "0123456789" * 6_000
    registry.send_c2d_message("fb-large", body, {"correlationId": "c-1"})
    message = messages.get(timeout=SECONDS)
    assert (message.data.decode(), message.correlation_id) == (body, "c-1")


def test_a_wrong_key_sends_nothing(iothub: HubHandle) -> None:
    iothub.create_device("fb-wrong")
    fields = iothub.service_connection_string.split("SharedAccessKey=")
    wrong = f"{fields[0]}SharedAccessKey={tokens.new_key()}"
    registry = IoTHubRegistryManager.from_connection_string(wrong)
    with pytest.raises(uamqp.errors.TokenAuthFailure):
        registry.send_c2d_message("fb-wrong", "x")
    assert iothub.request("GET", "/devices/fb-wrong")["cloudToDeviceMessageCount"] == 0
