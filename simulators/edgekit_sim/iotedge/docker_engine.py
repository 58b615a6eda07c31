"""Modules as containers of a real Docker engine.

Containers use the host's network: a simulated device is a loopback address of this machine, and
only there can its modules reach its broker and the hub, and listen without getting in each other's
way. Real devices use a bridge network; `createOptions` that publish ports have no effect here.
"""

import logging
from copy import deepcopy
from typing import Any

import docker
import docker.errors
import requests.exceptions

from edgekit_sim.iotedge.engine import Launch, State
from edgekit_sim.iotedge.errors import ModuleFailed
from edgekit_sim.lifeline import Lifeline

log = logging.getLogger(__name__)

STOP = 8  # seconds a module gets after SIGTERM
ANSWER = 120  # seconds for one call of the engine; a pull may take long

FAILURES = (docker.errors.DockerException, requests.exceptions.RequestException)


def docker_client() -> Any | None:
    """A client of this machine's engine, or None where none answers."""
    try:
        client = docker.from_env(timeout=ANSWER)
    except docker.errors.DockerException:
        return None
    try:
        client.ping()
    except FAILURES:
        client.close()
        return None
    return client


class DockerEngine:
    """See `Engine`."""

    name = "docker"

    def __init__(self, client: Any, device_id: str, lifeline: Lifeline) -> None:
        self._client = client
        self._device_id = device_id
        self._lifeline = lifeline
        self._containers: dict[str, Any] = {}

    def pull(self, image: str) -> None:
        """Pull, unless the very digest is there."""
        try:
            if "@" in image and self._has(image):
                return
            if "@" in image:
                name, _, digest = image.partition("@")
                self._client.images.pull(name.rsplit(":", 1)[0] if _tagged(name) else name, digest)
            else:
                self._client.images.pull(image)
        except FAILURES as error:
            # an image that was loaded and never pushed is as good as pulled
            if "@" not in image and self._has(image):
                return
            raise ModuleFailed(f"{image} cannot be pulled: {_reason(error)}") from error

    def _has(self, image: str) -> bool:
        try:
            self._client.images.get(image)
        except docker.errors.ImageNotFound:
            return False
        return True

    def start(self, launch: Launch) -> None:
        """Create the container as `createOptions` say, add what the device adds, start it."""
        self.stop(launch.module)
        name = f"{self._lifeline.run.replace('/', '-')}-{launch.module}"
        for folder in (launch.state, *(source for source, _, _ in launch.binds())):
            _open_to_all(folder)
        try:
            reply = self._client.api.create_container_from_config(self._config(launch), name)
            container = self._client.containers.get(reply["Id"])
            self._containers[launch.module] = container
            container.start()
        except FAILURES as error:
            raise ModuleFailed(f"{launch.module} does not start: {_reason(error)}") from error

    def _config(self, launch: Launch) -> dict[str, Any]:
        config: dict[str, Any] = deepcopy(dict(launch.create_options))
        host = config.get("HostConfig") or {}
        environment = dict(
            entry.partition("=")[::2] for entry in config.get("Env") or [] if "=" in entry
        )
        environment.update(launch.environment)
        host |= {
            "NetworkMode": "host",
            "Binds": [f"{source}:{target}:{mode}" for source, target, mode in launch.binds()],
            # restarting is the supervisor's business, as it is edgeAgent's
            "RestartPolicy": {"Name": "no"},
        }
        host.pop("PortBindings", None)
        labels = (config.get("Labels") or {}) | self._lifeline.labels
        labels |= {"edgekit.device": self._device_id, "edgekit.module": launch.module}
        return config | {
            "Image": launch.image,
            "Env": [f"{name}={value}" for name, value in environment.items()],
            "Labels": labels,
            "HostConfig": host,
        }

    def stop(self, module: str) -> None:
        """Stop and remove the module's container."""
        container = self._containers.pop(module, None)
        if container is None:
            return
        try:
            container.stop(timeout=STOP)
            container.remove(force=True, v=True)
        except docker.errors.NotFound:
            log.info("%s was gone already", module)
        except FAILURES as error:
            log.warning("%s does not go away: %s", module, _reason(error))

    def state(self, module: str) -> State | None:
        """Ask the engine; None also if somebody removed the container."""
        container = self._containers.get(module)
        if container is None:
            return None
        try:
            container.reload()
        except docker.errors.NotFound:
            self._containers.pop(module)
            return None
        except FAILURES as error:
            # an engine that restarts does not mean that the module ended
            log.warning("the container engine does not answer: %s", _reason(error))
            return State(True)
        found = container.attrs["State"]
        if found["Running"]:
            return State(True)
        return State(False, int(found["ExitCode"]))

    def close(self) -> None:
        """Stop and remove every container of this device."""
        for module in list(self._containers):
            self.stop(module)
        self._client.close()


def _tagged(name: str) -> bool:
    return ":" in name.rsplit("/", 1)[-1]


def _open_to_all(folder: Any) -> None:
    """Modules run as users of their own and must be able to write what is mounted for them."""
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o777)


def _reason(error: Exception) -> str:
    explanation = getattr(error, "explanation", None) or str(error)
    return " ".join(str(explanation).split())[:300]
