"""Packets that are really lost and connections that are really reset, between unmodified SDKs and
a hub in a network namespace of its own."""

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

pytestmark = [
    pytest.mark.needs("netns"),
    pytest.mark.timeout(600),
    # a reset in the midst of a write ends paho's thread (ssl.SSLEOFError), and so its client
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]
PREFIX = "edgekit-"
DEVICE_PORTS = "-p tcp --dport 8883"
LOSS = "-m statistic --mode random --probability 0.15 -j DROP"
RESETS = "-m statistic --mode random --probability 0.03 -j REJECT --reject-with tcp-reset"
FEW_RESETS = RESETS.replace("0.03", "0.01")
SECONDS, PATIENCE = 120.0, 3.0
GIVE_UP = 5  # actions in a row that hang


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


class Application:
    """What one writes around azure-iot-device where networks are bad.

    The client waits for ever for answers that were lost together with their connection, and now and
    then for ever altogether: so an action gets some seconds and is tried again, and a client that
    hangs is given up for a new one.

    Args:
        make: a new client.
        prepare: what to set on each.
    """

    def __init__(self, make: Callable[[], Any], prepare: Callable[[Any], None]) -> None:
        self._make, self._prepare = make, prepare
        self.client = make()
        self._prepared: list[Any] = []

    def do(self, act: Callable[[Any], Any]) -> Any:
        """Do something with the client until it is done; what it returns."""
        end = time.monotonic() + SECONDS
        hanging = 0
        while time.monotonic() < end:
            outcome: queue.Queue[Any] = queue.Queue()
            threading.Thread(target=self._attempt, args=(act, outcome), daemon=True).start()
            try:
                result, error = outcome.get(timeout=PATIENCE)
            except queue.Empty:
                hanging += 1
                if hanging == GIVE_UP:
                    self.close()
                    self.client, hanging = self._make(), 0
                continue
            if error is None:
                return result
            time.sleep(0.1)
        raise AssertionError("the network does not let it happen")

    def _attempt(self, act: Callable[[Any], Any], outcome: "queue.Queue[Any]") -> None:
        client = self.client
        try:
            if client not in self._prepared:
                self._prepare(client)
                self._prepared.append(client)
            outcome.put((act(client), None))
        except exceptions.ClientError as refusal:
            outcome.put((None, refusal))

    def close(self) -> None:
        """Shut the client down, or leave it alone where it hangs."""
        closing = threading.Thread(target=self.client.shutdown, daemon=True)
        closing.start()
        closing.join(PATIENCE)


Start = Callable[..., Application]


@pytest.fixture
def device(hub: HubHandle) -> Iterator[Start]:
    started: list[Application] = []

    def start(name: str, prepare: Callable[[Any], None] = lambda _client: None) -> Application:
        hub.create_device(name)

        def make() -> Any:
            return IoTHubDeviceClient.create_from_connection_string(
                hub.device_connection_string(name),
                connection_retry_interval=1,
                keep_alive=5,
                server_verification_cert=Path(hub.ca_file).read_text(),
            )

        started.append(Application(make, prepare))
        started[-1].do(lambda client: client.connect())
        return started[-1]

    yield start
    for application in started:
        application.close()


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.05)


BAD = (f"INPUT {DEVICE_PORTS} {RESETS}", f"INPUT {DEVICE_PORTS} {LOSS}", f"OUTPUT -p tcp {LOSS}")


def test_telemetry_arrives_at_least_once(network: Network, hub: HubHandle, device: Start) -> None:
    drops: list[bool] = []

    def prepare(client: Any) -> None:
        client.on_connection_state_change = lambda: drops.append(client.connected)

    lossy = device("lossy", prepare)
    with network.rules(*BAD):
        for number in range(80):
            lossy.do(lambda client, n=number: client.send_message(str(n)))
    bodies = [event["body"] for event in hub.events() if event["deviceId"] == "lossy"]
    assert list(dict.fromkeys(bodies)) == [str(number) for number in range(80)]
    assert False in drops  # it was a bad network indeed


def test_twins_converge(network: Network, device: Start, service: Any) -> None:
    told: list[int] = []

    def prepare(client: Any) -> None:
        client.on_twin_desired_properties_patch_received = lambda patch: told.append(patch["n"])

    application = device("twin", prepare)
    application.do(lambda client: client.get_twin())
    with network.rules(*BAD):
        for number in range(10):
            patch = Twin(properties=TwinProperties(desired={"n": number}))
            service.update_twin("twin", patch)
            application.do(lambda client, n=number: client.patch_twin_reported_properties({"n": n}))
    twin = application.do(lambda client: client.get_twin())
    stored = service.get_twin("twin").properties
    assert twin["desired"]["n"] == stored.desired["n"] == 9
    assert twin["reported"]["n"] == stored.reported["n"] == 9
    assert twin["desired"]["$version"] == stored.desired["$version"] == 11
    # new ones in order; what was not acknowledged comes again, and some may be missed
    assert list(dict.fromkeys(told)) == sorted(set(told))


def test_a_method_times_out_and_works_again(network: Network, device: Start, service: Any) -> None:
    def prepare(client: Any) -> None:
        def answer(request: Any) -> None:
            response = MethodResponse.create_from_method_request(request, 200, {"at": "last"})
            client.send_method_response(response)

        client.on_method_request_received = answer

    device("method", prepare)
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


def test_a_silent_cut_is_noticed_and_mended(
    network: Network, hub: HubHandle, device: Start
) -> None:
    gone = threading.Event()

    def prepare(client: Any) -> None:
        client.on_connection_state_change = lambda: client.connected or gone.set()

    silent = device("silent", prepare)
    with network.rules("INPUT -i eth0 -j DROP", "OUTPUT -o eth0 -j DROP"):
        assert gone.wait(SECONDS)  # nobody says that the cable is cut
    silent.do(lambda client: client.send_message("back"))
    bodies = [e["body"] for e in hub.events() if e["deviceId"] == "silent"]
    assert list(dict.fromkeys(bodies)) == ["back"]


def test_resets_while_commands_are_delivered(network: Network, device: Start, service: Any) -> None:
    received: list[str] = []

    def prepare(client: Any) -> None:
        client.on_message_received = lambda message: received.append(message.data.decode())

    application = device("commands", prepare)
    # few enough that no command is given up: a hub sends each ten times at most
    with network.rules(f"INPUT {DEVICE_PORTS} {FEW_RESETS}", f"INPUT {DEVICE_PORTS} {LOSS}"):
        for number in range(20):
            service.send_c2d_message("commands", str(number))
    application.do(lambda client: client.send_message("still here"))
    until(lambda: set(received) == {str(number) for number in range(20)})
