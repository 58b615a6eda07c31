"""Packets that are really lost and connections that are really reset, between unmodified SDKs and
a hub in a network namespace of its own."""

import contextlib
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import IoTHubDeviceClient, MethodResponse, exceptions
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties

from edgekit_sim.iothub import HubHandle, start_hub

pytestmark = pytest.mark.needs("netns")
PREFIX = "edgekit-"
DEVICE_PORTS = "-p tcp --dport 8883"
LOSS = "-m statistic --mode random --probability 0.15 -j DROP"
RESETS = "-m statistic --mode random --probability 0.03 -j REJECT --reject-with tcp-reset"
FEW_RESETS = RESETS.replace("0.03", "0.01")
SECONDS, PATIENCE = 90.0, 3.0


class Network:
    """A namespace joined to this one by a pair of virtual Ethernet devices.

    Attributes:
        name: the namespace.
        address: its address, as seen from here.
    """

    def __init__(self) -> None:
        number = os.getpid() % 16000
        self.name = f"{PREFIX}{os.getpid()}"
        net = f"198.18.{number // 64}"  # the range that RFC 2544 sets aside for tests
        low = number % 64 * 4
        self.address = f"{net}.{low + 2}"
        self._here, self._gateway = f"ek{os.getpid()}", f"{net}.{low + 1}"

    def __enter__(self) -> "Network":
        _remove_left_over()
        inside = f"ip -n {self.name}"
        for command in (
            f"ip netns add {self.name}",
            f"{inside} link set lo up",
            f"ip link add {self._here} type veth peer name eth0 netns {self.name}",
            f"ip addr add {self._gateway}/30 dev {self._here}",
            f"ip link set {self._here} up",
            f"{inside} addr add {self.address}/30 dev eth0",
            f"{inside} link set eth0 up",
        ):
            subprocess.run(command.split(), check=True)
        return self

    def __exit__(self, *_: object) -> None:
        # the pair goes with the namespace
        subprocess.run(["ip", "netns", "del", self.name], check=True)

    @contextmanager
    def rules(self, *rules: str) -> Iterator[None]:
        """What iptables does in the namespace while the block runs."""
        for rule in rules:
            self._iptables(f"-A {rule}")
        try:
            yield
        finally:
            self._iptables("-F")

    def _iptables(self, arguments: str) -> None:
        command = f"ip netns exec {self.name} iptables -w {arguments}"
        subprocess.run(command.split(), check=True)


def _remove_left_over() -> None:
    """Remove the namespaces of tests that were killed."""
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True)
    for line in listed.stdout.splitlines():
        name = line.split()[0]
        owner = name.removeprefix(PREFIX)
        if owner != name and owner.isdigit() and not Path(f"/proc/{owner}").exists():
            # another test may do so at this moment
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture(scope="module")
def hub(network: Network) -> Iterator[HubHandle]:
    launcher = ["ip", "netns", "exec", network.name]
    with (
        start_hub(bind=[network.address], launcher=launcher) as hub,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SSL_CERT_FILE", hub.ca_file)
        patch.setenv("REQUESTS_CA_BUNDLE", hub.ca_file)
        yield hub


@pytest.fixture
def service(hub: HubHandle) -> IoTHubRegistryManager:
    return IoTHubRegistryManager.from_connection_string(hub.service_connection_string)


@pytest.fixture
def device(hub: HubHandle) -> Iterator[Callable[[str], Any]]:
    clients: list[Any] = []

    def connect(name: str) -> Any:
        hub.create_device(name)
        client = IoTHubDeviceClient.create_from_connection_string(
            hub.device_connection_string(name),
            connection_retry_interval=1,
            keep_alive=5,
            server_verification_cert=Path(hub.ca_file).read_text(),
        )
        clients.append(client)
        client.connect()
        return client

    yield connect
    for client in clients:
        client.shutdown()


def persistently(act: Callable[[], Any]) -> Any:
    """Do something as an application does that knows of bad networks.

    azure-iot-device waits for ever for the answer to a twin request when that is lost together with
    the connection: it gets some seconds, and is asked again.
    """
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        outcome: queue.Queue[Any] = queue.Queue()

        def attempt(outcome: queue.Queue[Any] = outcome) -> None:
            try:
                outcome.put((act(), None))
            except exceptions.ClientError as refusal:
                outcome.put((None, refusal))

        threading.Thread(target=attempt, daemon=True).start()
        with contextlib.suppress(queue.Empty):
            result, error = outcome.get(timeout=PATIENCE)
            if error is None:
                return result
            time.sleep(0.1)
    raise AssertionError("the network does not let it happen")


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.05)


BAD = (f"INPUT {DEVICE_PORTS} {RESETS}", f"INPUT {DEVICE_PORTS} {LOSS}", f"OUTPUT -p tcp {LOSS}")


def test_telemetry_arrives_at_least_once(network: Network, hub: HubHandle, device: Any) -> None:
    client = device("lossy")
    drops: list[bool] = []
    client.on_connection_state_change = lambda: drops.append(client.connected)
    with network.rules(*BAD):
        for number in range(80):
            persistently(lambda n=number: client.send_message(str(n)))
    bodies = [event["body"] for event in hub.events() if event["deviceId"] == "lossy"]
    assert list(dict.fromkeys(bodies)) == [str(number) for number in range(80)]
    assert False in drops  # it was a bad network indeed


def test_twins_converge(network: Network, device: Any, service: Any) -> None:
    client = device("twin")
    told: list[int] = []
    client.on_twin_desired_properties_patch_received = lambda patch: told.append(patch["n"])
    persistently(client.get_twin)
    with network.rules(*BAD):
        for number in range(10):
            patch = Twin(properties=TwinProperties(desired={"n": number}))
            service.update_twin("twin", patch)
            persistently(lambda n=number: client.patch_twin_reported_properties({"n": n}))
    twin = persistently(client.get_twin)
    stored = service.get_twin("twin").properties
    assert twin["desired"]["n"] == stored.desired["n"] == 9
    assert twin["reported"]["n"] == stored.reported["n"] == 9
    assert twin["desired"]["$version"] == stored.desired["$version"] == 11
    # new ones in order; what was not acknowledged comes again, and some may be missed
    assert list(dict.fromkeys(told)) == sorted(set(told))


def test_a_method_times_out_and_works_again(network: Network, device: Any, service: Any) -> None:
    client = device("method")

    def answer(request: Any) -> None:
        response = MethodResponse.create_from_method_request(request, 200, {"at": "last"})
        client.send_method_response(response)

    client.on_method_request_received = answer
    call = CloudToDeviceMethod(
        method_name="go", response_timeout_in_seconds=5, connect_timeout_in_seconds=0
    )
    assert service.invoke_device_method("method", call).status == 200
    with network.rules(f"INPUT {DEVICE_PORTS} -j DROP"):
        with pytest.raises(Exception, match="Gateway Time"):
            service.invoke_device_method("method", call)
        until(lambda: service.get_device("method").connection_state == "Disconnected")
        with pytest.raises(Exception, match="Not Found"):
            service.invoke_device_method("method", call)
    until(lambda: service.get_device("method").connection_state == "Connected")
    assert service.invoke_device_method("method", call).payload == {"at": "last"}


def test_a_silent_cut_is_noticed_and_mended(network: Network, hub: HubHandle, device: Any) -> None:
    client = device("silent")
    gone = threading.Event()
    client.on_connection_state_change = lambda: client.connected or gone.set()
    with network.rules("INPUT -i eth0 -j DROP", "OUTPUT -o eth0 -j DROP"):
        assert gone.wait(SECONDS)  # nobody says that the cable is cut
    persistently(lambda: client.send_message("back"))
    assert [e["body"] for e in hub.events() if e["deviceId"] == "silent"] == ["back"]


def test_resets_while_commands_are_delivered(network: Network, device: Any, service: Any) -> None:
    client = device("commands")
    received: list[str] = []
    client.on_message_received = lambda message: received.append(message.data.decode())
    # few enough that no command is given up: a hub sends each ten times at most
    with network.rules(f"INPUT {DEVICE_PORTS} {FEW_RESETS}", f"INPUT {DEVICE_PORTS} {LOSS}"):
        for number in range(20):
            service.send_c2d_message("commands", str(number))
    until(lambda: set(received) == {str(number) for number in range(20)})
