"""What runs modules: the small protocol that Docker and plain processes stand behind."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

WORKLOAD_IN_MODULE = "/var/run/iotedge"  # where a module finds its workload socket's folder
STATE_IN_MODULE = "/var/lib/edgekit"


@dataclass(frozen=True)
class Launch:
    """A module ready to be started.

    Attributes:
        image: reference, by digest where it can be.
        environment: what the runtime and the deployment set, over the image's own.
        create_options: the deployment's, as Docker takes them.
        state: folder of this machine that the module finds as `/var/lib/edgekit`.
        workload: folder of this machine with the module's workload socket.
        files: folder of this machine below which the host paths of binds are taken, so that a
            simulated device never touches the machine's own.
    """

    module: str
    image: str
    environment: Mapping[str, str]
    create_options: Mapping[str, Any]
    state: Path
    workload: Path
    files: Path

    def binds(self) -> list[tuple[Path, str, str]]:
        """Folder of this machine, path in the module, `rw` or `ro`; the deployment's own win."""
        wanted = {
            STATE_IN_MODULE: (self.state, STATE_IN_MODULE, "rw"),
            WORKLOAD_IN_MODULE: (self.workload, WORKLOAD_IN_MODULE, "rw"),
        }
        host = self.create_options.get("HostConfig") or {}
        for bind in host.get("Binds") or []:
            source, target, *mode = str(bind).split(":")
            inside = os.path.normpath("/" + source).lstrip("/")
            wanted[target] = (self.files / inside, target, mode[0] if mode else "rw")
        return list(wanted.values())


@dataclass(frozen=True)
class State:
    """What has become of a module.

    Attributes:
        running: whether it runs now.
        exit_code: of its last end; 128 + N where signal N killed it; None while it runs.
    """

    running: bool
    exit_code: int | None = None


class Engine(Protocol):
    """Starts and stops modules. Every method may block; none is called twice at once."""

    name: str

    def pull(self, image: str) -> None:
        """Bring an image to this machine.

        Raises:
            ModuleFailed: it is not to be had.
        """
        ...

    def start(self, launch: Launch) -> None:
        """Start a module, in place of one with the same name.

        Raises:
            ModuleFailed: it does not start.
        """
        ...

    def stop(self, module: str) -> None:
        """End a module, gracefully and then not, and remove what it ran in."""
        ...

    def state(self, module: str) -> State | None:
        """What a module started here does; None if there is none."""
        ...

    def close(self) -> None:
        """End every module."""
        ...
