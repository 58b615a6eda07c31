"""The device's local MQTT broker in a child process: mosquitto, or where none is our own."""

import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from edgekit_sim.iotedge.errors import DeviceError
from edgekit_sim.lifeline import Lifeline

log = logging.getLogger(__name__)

PATIENCE = 20.0  # seconds until it must answer

MOSQUITTO = """\
listener {port} {address}
allow_anonymous true
persistence true
persistence_location {folder}/
autosave_interval 1
autosave_on_changes true
max_queued_messages 0
max_inflight_messages 200
log_type error
log_type warning
"""


class LocalBroker:
    """A broker on the device's own loopback address.

    Args:
        kind: `mosquitto`, `edgekit` or `auto`.
        address: where it listens.
        port: its port.
        folder: where it keeps sessions and queued messages.
        lifeline: what it ends with.
    """

    def __init__(
        self, kind: str, address: str, port: int, folder: Path, lifeline: Lifeline
    ) -> None:
        self._program = _mosquitto()
        if kind == "mosquitto" and self._program is None:
            raise DeviceError("no mosquitto on the PATH", "install it, or use the broker edgekit")
        self.kind = "mosquitto" if self._program and kind != "edgekit" else "edgekit"
        self._address, self._port, self._folder = address, port, folder
        self._lifeline = lifeline
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers; start it again where it has ended.

        Raises:
            DeviceError: it does not come up; its own words are in the message.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        log_path = self._folder / "broker.log"
        with log_path.open("wb") as log_file:
            self._process = subprocess.Popen(
                self._command(),
                env={**os.environ, **self._lifeline.environment},
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                words = log_path.read_text(errors="replace").strip().splitlines()[-1:]
                where = f"{self._address}:{self._port}"
                raise DeviceError(
                    f"{self.kind} does not listen on {where}: {''.join(words)}",
                    "give the device an address and a port of its own",
                )
            time.sleep(0.02)

    def _command(self) -> list[str]:
        if self.kind == "edgekit":
            where = [self._address, str(self._port), str(self._folder)]
            return [sys.executable, "-m", "edgekit_sim.iotedge.mqtt_broker", *where]
        config = self._folder / "mosquitto.conf"
        text = MOSQUITTO.format(address=self._address, port=self._port, folder=self._folder)
        if os.getuid() == 0:
            text += "user root\n"  # it would become a user who cannot write here
        config.write_text(text)
        assert self._program is not None
        return [self._program, "-c", str(config)]

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((self._address, self._port)) == 0

    def keep_running(self) -> None:
        """Start it again if it ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            log.warning("the broker ended with %s; starting it again", self._process.returncode)
            self.start()

    def stop(self) -> None:
        """End it gracefully, so that it writes what it holds to disk."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _mosquitto() -> str | None:
    # Debian puts it where only root's PATH looks
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
