"""A hub in a child process, for tests and demos: `with start_hub() as hub: ...`."""

import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import edgekit_sim
from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.errors import HubStopped, SimulatorError

START_SECONDS = 30.0
STOP_SECONDS = 10.0
TOKEN_SECONDS = 3600


class HubHandle:
    """A hub running in a child process, which ends with this one at the latest.

    Args:
        state_dir: the hub's folder; None for a temporary one that is removed at the end.
        bind: addresses to listen on, `auto` for a free loopback address.
        hostname: the hub's name in tokens; None for the default.
        options: more options of `python -m edgekit_sim.iothub`.

    Attributes:
        hostname: the hub's name, which devices use in tokens and user names.
        gateway: the address devices connect to (`GatewayHostName`).
        service_connection_string: for azure-iot-hub, with the rights of `iothubowner`.
        eventhub_connection_string: for azure-eventhub, to read what devices sent.
        dps_service_connection_string: for the provisioning service client.
        dps_device_host: where devices register (`provisioning_host`).
        dps_id_scope: the id scope they name.
        ca_file: certificate of the hub's authority, for SSL_CERT_FILE and REQUESTS_CA_BUNDLE.
        ports: by name: `mqtt`, `https`, where it could be opened `websocket`.
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

    def __init__(
        self,
        state_dir: Path | str | None = None,
        bind: Sequence[str] = ("auto",),
        hostname: str | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self._temporary = state_dir is None
        if state_dir is None:
            state_dir = tempfile.mkdtemp(prefix="edgekit-hub-")
        self.state_dir = Path(state_dir)
        self._options = [f"--bind={address}" for address in bind]
        if hostname is not None:
            self._options.append(f"--hostname={hostname}")
        if self._temporary:
            self._options.append("--volatile")
        self._options += options
        self._process: subprocess.Popen[str] | None = None
        self.start()

    def __enter__(self) -> "HubHandle":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._temporary:
            shutil.rmtree(self.state_dir, ignore_errors=True)

    # ---- the process

    def start(self) -> None:
        """Start the hub, again after `stop` or `kill`: same state, same address.

        Raises:
            SimulatorError: it cannot start.
        """
        if self._process is not None:
            raise SimulatorError("the hub is running")
        program = [sys.executable, "-m", "edgekit_sim.iothub", "--json", "--until-stdin-closes"]
        self.state_dir.mkdir(parents=True, exist_ok=True)
        with (self.state_dir / "hub.log").open("a") as log:
            self._process = subprocess.Popen(
                [*program, f"--state={self.state_dir}", *self._options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": _python_path()},
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.kill()
            raise SimulatorError(f"the hub did not start: {self._last_words()}")
        self._describe(json.loads(line))

    def _last_words(self) -> str:
        lines = (self.state_dir / "hub.log").read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it said nothing"

    def _describe(self, description: dict[str, Any]) -> None:
        self.hostname = description["hostname"]
        self.gateway = description["host"]
        self.service_connection_string = description["service_connection_string"]
        self.eventhub_connection_string = description["eventhub_connection_string"]
        self.dps_service_connection_string = description["dps_service_connection_string"]
        self.dps_device_host = description["dps_device_host"]
        self.dps_id_scope = description["dps_id_scope"]
        self.ca_file = description["ca_file"]
        self.ports = description["ports"]

    def stop(self) -> None:
        """Stop the hub in order; what it knows stays in `state_dir`."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the hub at once, as a power cut would: kill -9."""
        self._end(signal.SIGKILL)

    @property
    def pid(self) -> int:
        """The hub's process.

        Raises:
            HubStopped: it does not run.
        """
        if self._process is None:
            raise HubStopped("the hub has been stopped", "start it again with start()")
        return self._process.pid

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    # ---- the hub

    def request(self, method: str, path: str, document: Any = None) -> Any:
        """Call the hub's REST API with the owner's rights.

        Args:
            method: for example `GET`.
            path: for example `/devices/d1`; everything but devices' names as it goes on the wire.
            document: JSON to send, or bytes as they are.

        Returns:
            The JSON of the answer; None when it has none.

        Raises:
            HubStopped: the hub does not answer.
            SimulatorError: it refused, in its own words.
        """
        fields = dict(p.split("=", 1) for p in self.service_connection_string.split(";"))
        host = fields["HostName"]
        expiry = int(time.time()) + TOKEN_SECONDS
        policy = fields["SharedAccessKeyName"]
        headers = {
            "Authorization": tokens.sign(host, fields["SharedAccessKey"], expiry, policy),
            "Content-Type": "application/json",
        }
        body = document if isinstance(document, bytes | None) else json.dumps(document).encode()
        call = urllib.request.Request(f"https://{host}{path}", body, headers, method=method)
        context = ssl.create_default_context(cafile=self.ca_file)
        try:
            with urllib.request.urlopen(call, context=context, timeout=START_SECONDS) as response:  # noqa: S310
                text = response.read()
        except urllib.error.HTTPError as error:
            with error:
                refusal = json.loads(error.read() or b"{}")
            raise SimulatorError(f"{method} {path}: {refusal.get('Message')}") from error
        except OSError as error:
            raise HubStopped(f"the hub at {host} does not answer: {error}") from error
        return json.loads(text) if text else None

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

    def events(self, after: int = 0) -> list[dict[str, Any]]:
        """All events with a sequence number above `after`, in order."""
        found: list[dict[str, Any]] = []
        while page := self.request("GET", f"/edgekit/events?after={after}"):
            found += page
            after = page[-1]["sequence"]
        return found

    def partition(self, devices: Sequence[str] | None = None, seconds: float | None = None) -> None:
        """Cut devices (None: all) off, for some seconds or until `heal`."""
        self._fault({"fault": "partition", "devices": devices, "seconds": seconds})

    def lose_acks(self, share: float, seed: int = 0, seconds: float | None = None) -> None:
        """Lose the acknowledgement of a share of the messages, with their connection."""
        self._fault({"fault": "lose-acks", "share": share, "seed": seed, "seconds": seconds})

    def heal(self) -> None:
        """End all faults."""
        self._fault({"fault": "heal"})

    def _fault(self, document: dict[str, Any]) -> None:
        self.request("POST", "/edgekit/faults", document)


@contextlib.contextmanager
def start_hub(
    state_dir: Path | str | None = None,
    bind: Sequence[str] = ("auto",),
    hostname: str | None = None,
    options: Sequence[str] = (),
) -> Iterator[HubHandle]:
    """A hub in a child process for the length of a block; arguments as for `HubHandle`."""
    with HubHandle(state_dir, bind, hostname, options) as handle:
        yield handle


def _python_path() -> str:
    """Where the child finds this package, wherever we were imported from."""
    package = Path(next(iter(edgekit_sim.__path__))).parent
    return os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
