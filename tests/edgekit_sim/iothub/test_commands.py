"""Cloud-to-device messages, sent with the unmodified azure-iot-hub over AMQP."""

import queue
import time
from typing import Any

import pytest
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.protocol.iot_hub_gateway_service_ap_is import IotHubGatewayServiceAPIs

from edgekit_sim.iothub.handle import HubHandle


def send(registry: Any, device_id: str, body: str, **properties: Any) -> None:
    registry.send_c2d_message(device_id, body, properties)


def received(client: Any, count: int) -> list[Any]:
    """The next messages a client is sent."""
    messages: queue.Queue[Any] = queue.Queue()
    client.on_message_received = messages.put
    return [messages.get(timeout=10) for _ in range(count)]


def test_a_command_arrives_with_its_properties(connect: Any, registry: Any) -> None:
    client = connect("c2d")
    send(registry, "c2d", "open", level="a&b=ü", messageId="m-1", contentType="text/plain")
    (message,) = received(client, 1)
    assert message.data == b"open"
    assert message.custom_properties == {"level": "a&b=ü"}
    assert (message.message_id, message.content_type) == ("m-1", "text/plain")


def test_commands_wait_for_their_device_in_order(
    iothub: HubHandle, connect: Any, registry: Any
) -> None:
    iothub.create_device("late")
    for number in range(5):
        send(registry, "late", str(number))
    assert iothub.request("GET", "/devices/late")["cloudToDeviceMessageCount"] == 5
    client = connect("late")
    assert [message.data for message in received(client, 5)] == [b"0", b"1", b"2", b"3", b"4"]


def test_purge(iothub: HubHandle) -> None:
    iothub.create_device("purged")
    other = IoTHubRegistryManager.from_connection_string(iothub.service_connection_string)
    for number in range(3):
        send(other, "purged", str(number))
    protocol: IotHubGatewayServiceAPIs = other.protocol
    result = protocol.cloud_to_device_messages.purge_cloud_to_device_message_queue("purged")
    assert result.total_messages_purged == 3
    assert iothub.request("GET", "/devices/purged")["cloudToDeviceMessageCount"] == 0


def feedback(registry: Any, device_id: str) -> list[dict[str, Any]]:
    """Records of feedback on one device, completing what it reads."""
    service = registry.protocol.cloud_to_device_messages
    found: list[dict[str, Any]] = []
    end = time.monotonic() + 10
    while not found and time.monotonic() < end:
        raw = service.receive_feedback_notification(raw=True).response
        if raw.status_code == 200:
            found += [record for record in raw.json() if record["deviceId"] == device_id]
            lock = raw.headers["ETag"].strip('"')
            service.complete_feedback_notification(lock)
        time.sleep(0.05)
    return found


def test_feedback_on_success(connect: Any, registry: Any) -> None:
    client = connect("happy")
    send(registry, "happy", "x", messageId="m-2", **{"iothub-ack": "full"})
    assert received(client, 1)[0].data == b"x"
    (record,) = feedback(registry, "happy")
    assert (record["originalMessageId"], record["statusCode"]) == ("m-2", "Success")


def test_feedback_on_expiry(iothub: HubHandle, registry: Any) -> None:
    iothub.create_device("slow")
    soon = int((time.time() + 1) * 1000)
    send(registry, "slow", "x", expiryTimeUtc=soon, **{"iothub-ack": "negative"})
    (record,) = feedback(registry, "slow")
    assert record["statusCode"] == "Expired"
    assert iothub.request("GET", "/devices/slow")["cloudToDeviceMessageCount"] == 0


def test_a_command_to_nobody_is_rejected(registry: Any) -> None:
    with pytest.raises(Exception, match=r"send failure|not-found"):
        send(registry, "nobody-here", "x")


def test_the_queue_has_an_end(iothub: HubHandle, registry: Any) -> None:
    iothub.create_device("full")
    for number in range(50):
        send(registry, "full", str(number))
    with pytest.raises(Exception, match=r"send failure|resource-limit"):
        send(registry, "full", "one too many")


def test_a_lock_that_is_not_held(registry: Any) -> None:
    with pytest.raises(Exception, match="Precondition"):
        registry.protocol.cloud_to_device_messages.complete_feedback_notification("none")
