"""Faults on command, and the rates of a tier, as clients feel them."""

import threading
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


def test_a_share_of_messages_hangs_on_the_seed_and_on_no_other_device() -> None:
    def struck(*order: str) -> list[bool]:
        faults = Faults()
        faults.order({"fault": "drop", "share": 0.3, "seed": 7})
        found = {name: [] for name in order}
        for name in order:
            found[name].append(faults.strikes("drop", name) is not None)
        return found["d1"]

    alone = struck(*["d1"] * 400)
    assert alone == struck(*["d1", "d2"] * 400)
    assert 80 < sum(alone) < 160


def test_faults_in_force_are_told(faulty: HubHandle) -> None:
    faulty.fault("delay", devices=["f-9"], milliseconds=5, seconds=600)
    faulty.fault("drop", share=0.5, seed=3)
    delay, drop = faulty.request("GET", "/edgekit/faults")
    assert 0 < delay.pop("seconds") <= 600
    shared = {"devices": ["f-9"], "share": 1.0, "seed": 0}
    assert delay == {"fault": "delay", "milliseconds": 5.0, **shared}
    assert (drop["share"], drop["seed"], drop["seconds"]) == (0.5, 3, None)
    faulty.request("POST", "/edgekit/faults", {"fault": "heal", "kind": "drop"})
    assert [one["fault"] for one in faulty.request("GET", "/edgekit/faults")] == ["delay"]


def test_one_device_is_throttled_over_rest_and_mqtt(faulty: HubHandle, connect: Any) -> None:
    client, other = connect("f-6"), connect("f-7")
    faulty.fault("throttle", devices=["f-6"])
    with pytest.raises(SimulatorError, match="ThrottlingException"):
        faulty.request("GET", "/twins/f-6")
    with pytest.raises(exceptions.ClientError) as error:
        client.get_twin()
    assert "429" in str(error.value.__cause__)
    assert other.get_twin()["reported"]["$version"] == 1
    assert faulty.request("GET", "/twins/f-7")["deviceId"] == "f-7"


def test_one_device_is_throttled_over_amqp(faulty: HubHandle, registry: Any) -> None:
    for name in ("f-10", "f-11"):
        faulty.create_device(name)
    faulty.fault("throttle", devices=["f-10"])
    registry.send_c2d_message("f-11", "arrives")
    with pytest.raises(Exception, match="send failure"):
        registry.send_c2d_message("f-10", "does not")
    faulty.heal()
    counts = [faulty.request("GET", f"/devices/{name}") for name in ("f-10", "f-11")]
    assert [one["cloudToDeviceMessageCount"] for one in counts] == [0, 1]


def test_a_lost_answer_to_a_twin_change_leaves_the_change(faulty: HubHandle, connect: Any) -> None:
    client = connect("f-8")
    client.get_twin()
    gone = threading.Event()
    client.on_connection_state_change = lambda: client.connected or gone.set()
    faulty.fault("lose-acks", devices=["f-8"])
    patching = threading.Thread(
        target=client.patch_twin_reported_properties, args=({"n": 1},), daemon=True
    )
    patching.start()
    assert gone.wait(10)
    faulty.heal()
    # azure-iot-device waits for that answer for ever; the thread ends with the process
    assert faulty.request("GET", "/twins/f-8")["properties"]["reported"]["n"] == 1


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"fault": "heal", "kind": []},
        {"fault": "drop", "seed": "x"},
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


def test_messages_count_in_pieces_until_the_next_utc_day() -> None:
    now = 86_400.0 * 20_000 + 5
    quotas = Quotas("free", "small", lambda: now)
    quotas.count_message(512 * 7_999)
    quotas.count_message(1)
    with pytest.raises(HubFault, match="current message count : '8000'") as error:
        quotas.count_message(1)
    assert (error.value.status, error.value.code) == (403, "IotHubQuotaExceeded")
    now += 86_400 - 6
    with pytest.raises(HubFault):
        quotas.count_message(1)
    now += 1
    quotas.count_message(1)


def test_what_is_sent_too_fast_waits() -> None:
    quotas = Quotas("s1")
    assert {quotas.send() for _ in range(6_000)} == {0.0}
    waits = [quotas.send() for _ in range(200)]
    assert 1.0 < waits[-1] < 2.0
    assert Quotas("none").send() == 0.0


def test_connections_of_a_second_have_an_end() -> None:
    quotas = Quotas("free")
    assert [quotas.connect() for _ in range(100)] == [True] * 100
    assert not quotas.connect()


def test_commands_of_a_minute_have_an_end() -> None:
    quotas = Quotas("s1")
    for _ in range(100):
        quotas.count_command(10)
    with pytest.raises(HubFault) as error:
        quotas.count_command(10)
    assert (error.value.status, error.value.code) == (429, "ThrottlingException")


def test_a_free_hub_refuses_the_twenty_first_query() -> None:
    with start_hub(options=["--tier=free"]) as hub:
        for _ in range(20):
            hub.request("POST", "/devices/query", {"query": "SELECT * FROM devices"})
        with pytest.raises(SimulatorError, match="ThrottlingException"):
            hub.request("POST", "/devices/query", {"query": "SELECT * FROM devices"})
