"""A client of a running hub: its REST API, and ours, with the rights of its owner."""

import contextlib
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.errors import HubStopped, SimulatorError

DESCRIPTION = "hub.json"  # in the state folder while the hub runs, for its owner's eyes only
TOKEN_SECONDS = 3600
ANSWER_SECONDS = 310.0  # a direct method may take five minutes


class HubClient:
    """Calls a running hub.

    Args:
        description: what the hub said when it was ready.

    Attributes:
        hostname: the hub's name, which devices use in tokens and user names.
        gateway: the address devices connect to (`GatewayHostName`).
        service_connection_string: for azure-iot-hub, with the rights of `iothubowner`.
        eventhub_connection_string: for azure-eventhub, to read what devices sent.
        dps_service_connection_string: for the provisioning service client.
        dps_device_host: where devices register (`provisioning_host`).
        dps_id_scope: the id scope they name.
        ca_file: certificate of the hub's authority, for SSL_CERT_FILE and REQUESTS_CA_BUNDLE.
        ports: by name: `mqtt`, `https`, where they could be opened `amqps`, `amqp`, `websocket`.
        state_dir: the hub's folder.
    """

    hostname: str
    gateway: str
    service_connection_string: str
    eventhub_connection_string: str
    dps_service_connection_string: str
    dps_device_host: str
    dps_id_scope: str
    ca_file: str
    ports: dict[str, int]
    state_dir: Path

    def __init__(self, description: dict[str, Any]) -> None:
        self.state_dir = Path(description["state_dir"])
        self.describe(description)

    def describe(self, description: dict[str, Any]) -> None:
        """Take over what the hub said of itself."""
        self.hostname = description["hostname"]
        self.gateway = description["host"]
        self.service_connection_string = description["service_connection_string"]
        self.eventhub_connection_string = description["eventhub_connection_string"]
        self.dps_service_connection_string = description["dps_service_connection_string"]
        self.dps_device_host = description["dps_device_host"]
        self.dps_id_scope = description["dps_id_scope"]
        self.ca_file = description["ca_file"]
        self.ports = description["ports"]

    def request(
        self, method: str, path: str, document: Any = None, if_match: str | None = None
    ) -> Any:
        """Call the hub's REST API with the owner's rights.

        Args:
            method: for example `GET`.
            path: for example `/devices/d1`; everything but devices' names as it goes on the wire.
            document: JSON to send, or bytes as they are.
            if_match: the ETag that must be there, `*` for any.

        Returns:
            The JSON of the answer; None when it has none.

        Raises:
            HubStopped: the hub does not answer.
            SimulatorError: it refused, in its own words.
        """
        host = self.rest_host
        headers = {
            "Authorization": self.service_token(),
            "Content-Type": "application/json",
            **({"If-Match": if_match} if if_match else {}),
        }
        body = document if isinstance(document, bytes | None) else json.dumps(document).encode()
        call = urllib.request.Request(f"https://{host}{path}", body, headers, method=method)
        context = ssl.create_default_context(cafile=self.ca_file)
        try:
            with urllib.request.urlopen(call, context=context, timeout=ANSWER_SECONDS) as response:  # noqa: S310
                text = response.read()
        except urllib.error.HTTPError as error:
            with error:
                refusal = json.loads(error.read() or b"{}")
            raise SimulatorError(f"{method} {path}: {refusal.get('Message')}") from error
        except OSError as error:
            raise HubStopped(f"the hub at {host} does not answer: {error}") from error
        return json.loads(text) if text else None

    @property
    def rest_host(self) -> str:
        """Address and port of the REST API."""
        return self._owner["HostName"]

    def service_token(self) -> str:
        """A token with the owner's rights, for an hour: the REST API's `Authorization` header."""
        fields = self._owner
        expiry = int(time.time()) + TOKEN_SECONDS
        name, key = fields["SharedAccessKeyName"], fields["SharedAccessKey"]
        return tokens.sign(fields["HostName"], key, expiry, name)

    @property
    def _owner(self) -> dict[str, str]:
        return dict(p.split("=", 1) for p in self.service_connection_string.split(";"))

    def create_device(self, device_id: str, *, edge: bool = False) -> None:
        """Register a device with symmetric keys, if it is not there."""
        with contextlib.suppress(SimulatorError):
            self.request("GET", f"/devices/{quote(device_id, safe='')}")
            return
        document = {"deviceId": device_id, "capabilities": {"iotEdge": edge}}
        self.request("PUT", f"/devices/{quote(device_id, safe='')}", document)

    def create_consumer_group(self, name: str) -> None:
        """Make a consumer group for readers of the events, if it is not there."""
        self.request("PUT", f"/edgekit/consumer-groups/{quote(name, safe='')}")

    def device_connection_string(self, device_id: str, module_id: str = "") -> str:
        """The connection string of a registered device or module, with `GatewayHostName`."""
        path = f"/devices/{quote(device_id, safe='')}"
        path += f"/modules/{quote(module_id, safe='')}" if module_id else ""
        key = self.request("GET", path)["authentication"]["symmetricKey"]["primaryKey"]
        names = f"HostName={self.hostname};DeviceId={device_id}"
        names += f";ModuleId={module_id}" if module_id else ""
        return f"{names};SharedAccessKey={key};GatewayHostName={self.gateway}"

    def trust(self, name: str, certificate: str) -> None:
        """Let devices of the type `certificateAuthority` in with what an authority issued (PEM)."""
        self.request("PUT", f"/edgekit/authorities/{quote(name, safe='')}", certificate.encode())

    def route(self, routing: dict[str, Any]) -> None:
        """Have messages go the ways of a routing section, in the place of all there were.

        Raises:
            SimulatorError: it cannot be so; the hub says what is wrong where.
        """
        self.request("PUT", "/edgekit/routing", routing)

    def routing(self) -> dict[str, Any]:
        """The routing section in force, with all defaults."""
        section: dict[str, Any] = self.request("GET", "/edgekit/routing")
        return section

    def test_route(
        self, route: dict[str, Any], message: dict[str, Any], twin: dict[str, Any] | None = None
    ) -> str:
        """What a route's condition comes to for a message: `true`, `false` or `undefined`.

        Args:
            route: as in a routing section.
            message: `body`, `appProperties` and `systemProperties`, all optional.
            twin: `tags` and `properties` of the sender.

        Raises:
            SimulatorError: the route is wrong, and what.
        """
        document = {"route": route, "message": message, "twin": twin or {}}
        answer = self.request("POST", "/edgekit/routing/routes/$testnew", document)
        for error in answer["details"]["compilationErrors"]:
            column = error["location"]["start"]["column"]
            raise SimulatorError(f"condition, character {column}: {error['message']}")
        return str(answer["result"])

    def eventhub_connection_string_of(self, entity: str) -> str:
        """For azure-eventhub, to read what routes take to an event stream."""
        return f"{self.eventhub_connection_string.rpartition('=')[0]}={entity}"

    def events(self, after: int = 0, endpoint: str = "") -> list[dict[str, Any]]:
        """All events with a sequence number above `after`, in order.

        Args:
            after: 0 for all.
            endpoint: an event stream that routes lead to; "" for the built-in endpoint.
        """
        found: list[dict[str, Any]] = []
        path = f"/edgekit/events?endpoint={quote(endpoint, safe='')}&after="
        while page := self.request("GET", f"{path}{after}"):
            found += page
            after = page[-1]["sequence"]
        return found

    def partition(self, devices: Sequence[str] | None = None, seconds: float | None = None) -> None:
        """Cut devices (None: all) off, for some seconds or until `heal`."""
        self.fault("partition", devices=devices, seconds=seconds)

    def lose_acks(self, share: float, seed: int = 0, seconds: float | None = None) -> None:
        """Lose the acknowledgement of a share of the messages, with their connection."""
        self.fault("lose-acks", share=share, seed=seed, seconds=seconds)

    def heal(self) -> None:
        """End all faults."""
        self.fault("heal")

    def fault(self, kind: str, **options: Any) -> None:
        """Begin a fault; kinds and options are those of `edgekit_sim.iothub.faults`."""
        self.request("POST", "/edgekit/faults", {"fault": kind, **options})


def find_hub(state_dir: Path) -> HubClient:
    """The hub that runs on a state folder.

    Raises:
        HubStopped: none does.
    """
    try:
        return HubClient(json.loads((state_dir / DESCRIPTION).read_text()))
    except (OSError, ValueError, KeyError) as error:
        raise HubStopped(
            f"no hub is running on {state_dir}", f"start one: edgekit sim hub --state {state_dir}"
        ) from error
