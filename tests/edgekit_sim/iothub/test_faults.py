"""Faults on command, and the rates of a tier, as clients feel them."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from azure.iot.device import IoTHubDeviceClient, exceptions

from edgekit_sim.iothub import HubHandle, SimulatorError, start_hub
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.faults import Faults
from edgekit_sim.iothub.quotas import Bucket, Quotas


@pytest.fixture
def faulty(iothub: HubHandle) -> Iterator[HubHandle]:
    yield iothub
    iothub.heal()


def connects(hub: HubHandle, device_id: str) -> bool:
    hub.create_device(device_id)
    client = IoTHubDeviceClient.create_from_connection_string(
        hub.device_connection_string(device_id), connection_retry=False
    )
    try:
        client.connect()
    except (exceptions.CredentialError, exceptions.ConnectionFailedError):
        return False
    except exceptions.ConnectionDroppedError:
        return False
    finally:
        client.shutdown()
    return True


def test_tokens_are_refused_for_one_device(faulty: HubHandle) -> None:
    faulty.fault("refuse-tokens", devices=["f-1"])
    assert not connects(faulty, "f-1")
    assert connects(faulty, "f-2")
    faulty.heal()
    assert connects(faulty, "f-1")


def test_a_clock_that_is_ahead_finds_tokens_expired(faulty: HubHandle) -> None:
    assert connects(faulty, "f-3")
    faulty.fault("clock-skew", milliseconds=2 * 3600 * 1000)
    with pytest.raises(SimulatorError, match="expired"):
        faulty.request("GET", "/devices")


def test_throttling_says_when_to_come_back(faulty: HubHandle) -> None:
    faulty.fault("throttle")
    headers = {"Authorization": faulty.service_token()}
    answer = requests.get(f"https://{faulty.rest_host}/devices", headers=headers, timeout=9)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert answer.headers["iothub-errorcode"] == "ThrottlingException"


def send(client: Any, body: str) -> None:
    """Send as an application does that knows of bad networks."""
    for _ in range(100):
        try:
            client.send_message(body)
        except (exceptions.NoConnectionError, exceptions.ConnectionDroppedError):
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"{body!r} could not be sent")


def test_a_dropped_message_is_sent_again(faulty: HubHandle, connect: Any) -> None:
    client = connect("f-4")
    faulty.fault("drop", seed=3, share=0.5)
    for number in range(6):
        send(client, str(number))
    bodies = [event["body"] for event in faulty.events() if event["deviceId"] == "f-4"]
    assert list(dict.fromkeys(bodies)) == [str(number) for number in range(6)]


def test_a_delay_is_felt_and_nothing_is_lost(faulty: HubHandle, connect: Any) -> None:
    client = connect("f-5")
    faulty.fault("delay", milliseconds=300)
    begin = time.monotonic()
    client.send_message("late")
    assert time.monotonic() - begin >= 0.3
    assert [e["body"] for e in faulty.events() if e["deviceId"] == "f-5"] == ["late"]


def test_a_share_of_devices_is_the_same_with_the_same_seed() -> None:
    def struck(seed: int) -> set[int]:
        faults = Faults()
        faults.order({"fault": "partition", "share": 0.3, "seed": seed})
        return {n for n in range(1000) if faults.strikes("partition", f"d{n}")}

    assert struck(1) == struck(1)
    assert struck(1) != struck(2)
    assert 200 < len(struck(1)) < 400


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"fault": "fire"},
        {"fault": "drop", "share": 2},
        {"fault": "drop", "share": True},
        {"fault": "partition", "devices": "d1"},
        {"fault": "partition", "seconds": -1},
    ],
)
def test_what_is_no_fault(document: Any) -> None:
    with pytest.raises(HubFault) as error:
        Faults().order(document)
    assert error.value.status == 400


def test_a_bucket_holds_a_minute_and_is_refilled() -> None:
    bucket = Bucket(2, 1000.0)
    assert [bucket.spend(), bucket.spend()] == [True, True]
    bucket.level = 0.0
    bucket.updated -= 1.0
    assert bucket.spend()


def test_messages_count_in_pieces() -> None:
    quotas = Quotas("free")
    assert quotas.takes_message(512 * 8000)
    assert not quotas.takes_message(1)


def test_a_free_hub_refuses_the_twenty_first_query() -> None:
    with start_hub(options=["--tier=free"]) as hub:
        for _ in range(20):
            hub.request("POST", "/devices/query", {"query": "SELECT * FROM devices"})
        with pytest.raises(SimulatorError, match="ThrottlingException"):
            hub.request("POST", "/devices/query", {"query": "SELECT * FROM devices"})
