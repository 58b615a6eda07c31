"""A simulated device as a child process, for the demo and for tests."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as mqtt

from edgekit_sim.iotedge.config import DeviceConfig
from edgekit_sim.iotedge.errors import DeviceError
from edgekit_sim.iotedge.runtime import STATUS_FILE

START = 40.0  # seconds until a device's broker must answer
END = 30.0  # seconds a device gets to end gracefully


class EdgeDevice:
    """Runs one device for as long as the block runs; its disk, `config.state`, stays.

    Args:
        config: the device's configuration.
    """

    def __init__(self, config: DeviceConfig) -> None:
        self.config = config
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def broker(self) -> str:
        """`host:port` of the device's local broker."""
        return f"{self.config.address}:{self.config.broker_port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the device; returns when its broker answers.

        Raises:
            DeviceError: it does not come up; the message has its last words.
        """
        state = self.config.state
        state.mkdir(parents=True, exist_ok=True)
        config = state / "device.toml"
        config.write_text(self.config.to_toml())
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        with (state / "device.log").open("ab") as log_file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edgekit_sim.iotedge", "--config", config, "--until-eof"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log_file,
                env=environment,
            )
        try:
            self._wait(lambda: bool(self.status()), START, "does not start")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End the device as a shutdown would: modules first, the broker last."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End the device as a power cut would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()

    def status(self) -> dict[str, Any]:
        """What the device last said of itself; empty before it said anything.

        Raises:
            DeviceError: it has ended by itself; the message has its last words.
        """
        if self._process is not None and self._process.poll() is not None:
            raise DeviceError(f"the device ended: {self._last_words()}", "see device.log")
        try:
            status: dict[str, Any] = json.loads((self.config.state / STATUS_FILE).read_text())
        except FileNotFoundError:
            return {}
        # not what an earlier device on this disk has left
        return status if self._process is None or status["pid"] == self._process.pid else {}

    def wait_ready(
        self, seconds: float = 120.0, modules: Sequence[str] = ("scorer", "telemetry")
    ) -> None:
        """Wait until the deployment runs and no message can be lost any more.

        A broker keeps messages for a subscriber only once it has subscribed; modules of edgekit say
        so in a retained message.

        Args:
            seconds: how long at most.
            modules: which modules must have said so.

        Raises:
            DeviceError: the time is over; the message says what is missing.
        """
        deadline = time.monotonic() + seconds
        self._wait(lambda: bool(self.status().get("ready")), seconds, "is not ready")
        left = max(1.0, deadline - time.monotonic())
        missing = set(modules) - _subscribed(self.config, modules, left)
        if missing:
            raise DeviceError(
                f"module {min(missing)} of {self.status().get('device')} does not subscribe",
                f"see {self.config.state}/logs, or docker logs",
            )

    def _wait(self, condition: Any, seconds: float, complaint: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                status = self.status()
                outcome = status.get("last_desired_status", {}).get("description", "")
                detail = outcome or str(status.get("modules", ""))
                raise DeviceError(
                    f"the device {complaint}: {detail}", f"see {self.config.state}/device.log"
                )
            time.sleep(0.05)

    def _last_words(self) -> str:
        lines = (self.config.state / "device.log").read_text(errors="replace").splitlines()
        return lines[-1] if lines else "without a word"


def _subscribed(config: DeviceConfig, modules: Sequence[str], seconds: float) -> set[str]:
    """The modules that have said that they subscribed, once all have or the time is over."""
    said: set[str] = set()
    complete = threading.Event()

    def note(_client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        said.add(message.topic.split("/")[1])
        if said.issuperset(modules):
            complete.set()

    client = mqtt.Client(client_id="", clean_session=True)
    client.on_connect = lambda client, *_: client.subscribe("edgekit/+/status", 1)
    client.on_message = note
    client.connect(config.address, config.broker_port)
    client.loop_start()
    try:
        if modules:
            complete.wait(seconds)
    finally:
        client.disconnect()
        client.loop_stop()
    return said
