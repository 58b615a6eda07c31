"""The demo's cloud on this machine: an OCI registry, and an IoT Hub for the Azure SDKs."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from edgekit.errors import EdgekitError
from edgekit_sim import ociregistry
from edgekit_sim.demo.environment import in_environment
from edgekit_sim.iothub import HubHandle, start_hub

DOCKER_REGISTRY = "docker-registry"
# seconds a registry may take to listen
START_SECONDS = 15.0


@contextlib.contextmanager
def oci_registry(folder: Path) -> Iterator[str]:
    """An OCI registry in `folder`: Debian's docker-registry where it is installed, else our own.

    Yields:
        Its `host:port`.
    """
    if shutil.which(DOCKER_REGISTRY) is None:
        with ociregistry.Registry(folder) as registry:
            yield registry.address
        return
    address = f"127.0.0.1:{_free_port()}"
    process = _docker_registry(folder, address)
    try:
        _wait_for(address, process, folder)
        yield address
    finally:
        process.terminate()
        process.wait()


def _docker_registry(folder: Path, address: str) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "storage")}},
        "http": {"addr": address},
    }
    (folder / "config.yml").write_text(yaml.safe_dump(settings))
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [DOCKER_REGISTRY, "serve", str(folder / "config.yml")], stdout=log, stderr=log
        )


def _wait_for(address: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    host, port = address.split(":")
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.05)
    raise EdgekitError(f"{DOCKER_REGISTRY} did not start at {address}", f"see {folder / 'log'}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def hub(folder: Path) -> Iterator[HubHandle]:
    """An IoT Hub with its state in `folder`, and this process's Azure SDK pointed at it."""
    with start_hub(folder) as handle:
        pointers = {"SSL_CERT_FILE": handle.ca_file, "REQUESTS_CA_BUNDLE": handle.ca_file}
        with in_environment(pointers):
            yield handle
