"""Which engine runs a device's modules: Docker where one answers, else plain processes."""

from pathlib import Path

from edgekit_sim.iotedge.docker_engine import DockerEngine, docker_client
from edgekit_sim.iotedge.engine import Engine
from edgekit_sim.iotedge.errors import DeviceError
from edgekit_sim.iotedge.process_engine import ProcessEngine
from edgekit_sim.lifeline import Lifeline


def open_engine(name: str, device_id: str, cache: Path, state: Path, lifeline: Lifeline) -> Engine:
    """The engine of a name; `auto` takes Docker where an engine answers.

    Raises:
        DeviceError: Docker is asked for and does not answer.
    """
    if pick_engine(name) == "process":
        return ProcessEngine(cache, state / "logs", lifeline)
    client = docker_client()
    if client is None:
        raise _no_docker()
    return DockerEngine(client, device_id, lifeline)


def pick_engine(name: str) -> str:
    """What `auto` stands for here, or `name` itself: `docker` or `process`.

    Raises:
        DeviceError: Docker is asked for and does not answer.
    """
    if name == "process":
        return name
    client = docker_client()
    if client is not None:
        client.close()
        return "docker"
    if name == "docker":
        raise _no_docker()
    return "process"


def _no_docker() -> DeviceError:
    return DeviceError("no Docker engine answers", "start one, or use --engine process")
