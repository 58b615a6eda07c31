"""What a device or module does with the hub, through the unmodified azure-iot-device."""

import asyncio
import json
import threading
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient, Message, MethodResponse, exceptions
from azure.iot.device.aio import IoTHubDeviceClient as AsyncDeviceClient
from azure.iot.hub.models import CloudToDeviceMethod

from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.handle import HubHandle


def sent_by(iothub: HubHandle, device_id: str) -> list[dict[str, Any]]:
    return [event for event in iothub.events() if event["deviceId"] == device_id]


def test_telemetry_arrives_with_all_its_properties(iothub: HubHandle, connect: Any) -> None:
    message = Message(json.dumps({"digit": 7}), message_id="m-1")
    message.content_type, message.content_encoding = "application/json", "utf-8"
    message.correlation_id, message.user_id = "c/1", "üser"
    message.custom_properties["line & level"] = "a=b?ü"
    connect("props").send_message(message)
    (event,) = sent_by(iothub, "props")
    system = event["systemProperties"]
    assert event["body"] == {"digit": 7}
    assert event["properties"] == {"line & level": "a=b?ü"}
    assert system["message-id"] == "m-1"
    assert system["correlation-id"] == "c/1"
    assert system["user-id"] == "üser"
    assert system["content-type"] == "application/json"
    assert system["iothub-connection-device-id"] == "props"
    assert system["iothub-message-source"] == "Telemetry"


def test_events_keep_their_order(iothub: HubHandle, connect: Any) -> None:
    client = connect("order")
    for number in range(50):
        client.send_message(str(number))
    assert [event["body"] for event in sent_by(iothub, "order")] == [str(n) for n in range(50)]


def test_an_asynchronous_client(iothub: HubHandle) -> None:
    iothub.create_device("aio")

    async def run() -> Any:
        client = AsyncDeviceClient.create_from_connection_string(
            iothub.device_connection_string("aio")
        )
        await client.connect()
        await asyncio.gather(*(client.send_message(str(number)) for number in range(20)))
        await client.patch_twin_reported_properties({"from": "aio"})
        twin = await client.get_twin()
        await client.shutdown()
        return twin

    twin = asyncio.run(run())
    assert twin["reported"] == {"from": "aio", "$version": 2}
    assert sorted(int(event["body"]) for event in sent_by(iothub, "aio")) == list(range(20))


def test_module_output(iothub: HubHandle, connect: Any) -> None:
    connect("host", "scorer").send_message_to_output(Message("x"), "output1")
    (event,) = sent_by(iothub, "host")
    assert event["moduleId"] == "scorer"
    assert event["systemProperties"]["iothub-output-name"] == "output1"


def test_reported_properties_merge_and_null_removes(connect: Any) -> None:
    client = connect("reported")
    client.patch_twin_reported_properties({"a": {"b": 1, "c": 2}, "d": "x"})
    client.patch_twin_reported_properties({"a": {"b": None, "e": [1, 2]}, "d": None})
    assert client.get_twin()["reported"] == {"a": {"c": 2, "e": [1, 2]}, "$version": 3}


def test_reported_properties_over_the_limit_are_refused(connect: Any) -> None:
    client = connect("too-much")
    with pytest.raises(exceptions.ClientError):
        client.patch_twin_reported_properties({f"k{n}": "x" * 4000 for n in range(9)})
    assert client.get_twin()["reported"] == {"$version": 1}


def test_desired_properties_arrive_with_their_version(connect: Any, registry: Any) -> None:
    client = connect("desired")
    patches: list[Any] = []
    arrived = threading.Event()

    def receive(patch: Any) -> None:
        patches.append(patch)
        arrived.set()

    client.on_twin_desired_properties_patch_received = receive
    client.get_twin()
    twin = registry.get_twin("desired")
    twin.properties.desired = {"model": "digits:2", "gone": None}
    registry.update_twin("desired", twin, twin.etag)
    assert arrived.wait(10)
    assert patches == [{"model": "digits:2", "gone": None, "$version": 2}]


def test_direct_method(connect: Any, registry: Any) -> None:
    client = connect("method")

    def answer(request: Any) -> None:
        client.send_method_response(
            MethodResponse.create_from_method_request(request, 201, {"got": request.payload})
        )

    client.on_method_request_received = answer
    result = registry.invoke_device_method(
        "method",
        CloudToDeviceMethod(method_name="re score", payload=[1], response_timeout_in_seconds=10),
    )
    assert (result.status, result.payload) == (201, {"got": [1]})


def test_method_of_a_device_that_is_not_there(registry: Any, iothub: HubHandle) -> None:
    iothub.create_device("absent")
    with pytest.raises(Exception, match="Not Found"):
        registry.invoke_device_method("absent", CloudToDeviceMethod(method_name="any"))


def test_method_of_a_device_that_takes_none(connect: Any, registry: Any) -> None:
    client = connect("deaf")
    with pytest.raises(Exception, match="Not Found"):
        registry.invoke_device_method("deaf", CloudToDeviceMethod(method_name="any"))
    assert client.connected


def test_a_second_connection_takes_over(iothub: HubHandle, connect: Any) -> None:
    first = connect("twice", connection_retry=False)
    dropped = threading.Event()
    first.on_connection_state_change = lambda: first.connected or dropped.set()
    second = connect("twice")
    assert dropped.wait(10)
    second.send_message("still here")
    assert [event["body"] for event in sent_by(iothub, "twice")] == ["still here"]


@pytest.mark.needs("port-443")
def test_websocket(iothub: HubHandle, connect: Any) -> None:
    connect("ws", websockets=True).send_message("over port 443")
    assert [event["body"] for event in sent_by(iothub, "ws")] == ["over port 443"]


def connection_error(text: str) -> type[BaseException] | None:
    client = IoTHubDeviceClient.create_from_connection_string(text, connection_retry=False)
    try:
        client.connect()
    except exceptions.CredentialError as error:
        return type(error)
    finally:
        client.shutdown()
    return None


def test_the_secondary_key_opens_too(iothub: HubHandle) -> None:
    iothub.create_device("second-key")
    keys = iothub.request("GET", "/devices/second-key")["authentication"]["symmetricKey"]
    text = iothub.device_connection_string("second-key")
    assert connection_error(text.replace(keys["primaryKey"], keys["secondaryKey"])) is None


def test_a_wrong_key_is_refused(iothub: HubHandle) -> None:
    iothub.create_device("wrong-key")
    text = iothub.device_connection_string("wrong-key")
    key = text.split("SharedAccessKey=")[1].split(";")[0]
    wrong = text.replace(key, tokens.new_key())
    assert connection_error(wrong) is exceptions.CredentialError


def test_a_device_that_is_not_registered_is_refused(iothub: HubHandle) -> None:
    iothub.create_device("somebody")
    text = iothub.device_connection_string("somebody").replace("somebody", "nobody")
    assert connection_error(text) is exceptions.CredentialError


def test_a_disabled_device_is_refused_and_thrown_out(iothub: HubHandle, connect: Any) -> None:
    client = connect("disabled", connection_retry=False)
    dropped = threading.Event()
    client.on_connection_state_change = lambda: client.connected or dropped.set()
    document = iothub.request("GET", "/devices/disabled")
    iothub.request(
        "POST", "/devices", [{"id": "disabled", "status": "disabled", "importMode": "update"}]
    )
    assert document["status"] == "enabled"
    assert dropped.wait(10)
    text = iothub.device_connection_string("disabled")
    assert connection_error(text) is exceptions.CredentialError
