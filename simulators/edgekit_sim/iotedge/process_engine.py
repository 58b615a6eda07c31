"""Modules as plain processes, unpacked from their images: for machines without a container engine.

A process has no root of its own: the image's program is started with the image's own dynamic
loader and libraries, and paths in its environment are led into the unpacked tree. What needs more
than that (programs with paths compiled in, other users, limits) needs Docker.
"""

import json
import logging
import os
import platform as machine
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import EdgekitError
from edgekit.oci.blobs import Blobs
from edgekit.oci.descriptor import Platform
from edgekit.oci.reference import Reference
from edgekit.oci.transfer import pull
from edgekit.oci.unpack import unpack
from edgekit_sim.iotedge.engine import STATE_IN_MODULE, Launch, State
from edgekit_sim.iotedge.errors import ModuleFailed
from edgekit_sim.lifeline import Lifeline

log = logging.getLogger(__name__)

STOP = 8.0  # seconds a module gets after SIGTERM
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# Debian's, Fedora's and the standard's places for the loader and for libraries
LOADERS = ("lib64/ld-linux-x86-64.so.2", "lib/ld-linux-aarch64.so.1")
LIBRARIES = (
    "lib/{arch}-linux-gnu",
    "usr/lib/{arch}-linux-gnu",
    "lib64",
    "usr/lib64",
    "lib",
    "usr/lib",
)


@dataclass(frozen=True)
class Root:
    """An unpacked image.

    Attributes:
        folder: its root file system.
        config: the `config` of its image configuration: Entrypoint, Cmd, Env.
    """

    folder: Path
    config: Mapping[str, Any]

    def inside(self, path: str) -> Path:
        """Where an absolute path of the image lies here, links followed as if this were `/`."""
        current = self.folder
        waiting = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        for _ in range(256):
            if not waiting:
                return current
            part = waiting.pop()
            if part == "..":
                current = current.parent if current != self.folder else current
                continue
            current /= part
            if current.is_symlink():
                target = str(current.readlink())
                current = self.folder if target.startswith("/") else current.parent
                waiting += [p for p in reversed(target.split("/")) if p not in ("", ".")]
        raise ModuleFailed(f"{path} goes round in a circle of links in the image")

    def rewrite(self, value: str) -> str:
        """Lead the absolute paths of a setting, `:` between them, into the tree if they exist."""
        parts = value.split(":")
        return ":".join(
            str(here) if part.startswith("/") and (here := self.inside(part)).exists() else part
            for part in parts
        )

    def command(self, arguments: Sequence[str], search: str) -> list[str]:
        """The command as this machine can start it: by the image's own loader.

        Raises:
            ModuleFailed: the image has no such program.
        """
        program = arguments[0]
        if not program.startswith("/"):
            candidates = [f"{folder}/{program}" for folder in search.split(":")]
        else:
            candidates = [program]
        found = next((p for p in map(self.inside, candidates) if p.is_file()), None)
        if found is None:
            raise ModuleFailed(f"the image has no program {program}")
        with found.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                raise ModuleFailed(f"{program} is no native program; start its interpreter instead")
        loader = next((p for p in map(self.inside, LOADERS) if p.is_file()), None)
        if loader is None:  # linked statically
            return [str(found), *arguments[1:]]
        libraries = [
            str(folder)
            for name in LIBRARIES
            if (folder := self.inside(name.format(arch=machine.machine()))).is_dir()
        ]
        return [str(loader), "--library-path", ":".join(libraries), str(found), *arguments[1:]]


class ProcessEngine:
    """See `Engine`.

    Args:
        cache: folder with blobs and unpacked images, which several devices may share.
        logs: folder for what modules write, one file for each.
        lifeline: what it starts ends with.
    """

    name = "process"

    def __init__(self, cache: Path, logs: Path, lifeline: Lifeline) -> None:
        self._cache = cache
        self._logs = logs
        self._lifeline = lifeline
        self._roots: dict[str, Root] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def pull(self, image: str) -> None:
        """Pull the image for this processor and unpack it into a folder named by its digest."""
        if image in self._roots and "@" in image:
            return
        architecture = ARCHITECTURES.get(machine.machine(), machine.machine())
        blobs = Blobs(self._cache / "blobs")
        try:
            pulled = pull(Reference.parse(image), blobs, Platform("linux", architecture))
            folder = self._cache / "roots" / pulled.manifest.descriptor.digest.partition(":")[2]
            if not folder.exists():
                try:
                    unpack(pulled, folder)
                except EdgekitError:
                    if not folder.exists():  # else another device was faster
                        raise
            config = json.loads(blobs.read(pulled.manifest.config)).get("config") or {}
        except EdgekitError as error:
            raise ModuleFailed(f"{image} cannot be pulled: {error}") from error
        self._roots[image] = Root(folder, config)

    def start(self, launch: Launch) -> None:
        """Start the image's command with the device's and the deployment's settings."""
        self.stop(launch.module)
        root = self._roots[launch.image]
        environment = self._environment(root, launch)
        command = root.command(_arguments(root, launch), environment.get("PATH", "/usr/bin:/bin"))
        self._logs.mkdir(parents=True, exist_ok=True)
        try:
            with (self._logs / f"{launch.module}.log").open("ab") as log_file:
                self._processes[launch.module] = subprocess.Popen(
                    command,
                    env=environment | self._lifeline.environment,
                    cwd=root.inside(str(root.config.get("WorkingDir") or "/")),
                    stdin=subprocess.DEVNULL,
                    stdout=log_file,
                    stderr=log_file,
                    start_new_session=True,
                )
        except OSError as error:
            raise ModuleFailed(f"{launch.module} does not start: {error.strerror}") from error

    def _environment(self, root: Root, launch: Launch) -> dict[str, str]:
        entries = [*(root.config.get("Env") or []), *(launch.create_options.get("Env") or [])]
        from_image = dict(entry.partition("=")[::2] for entry in entries)
        environment = {name: root.rewrite(value) for name, value in from_image.items()}
        environment["EDGEKIT_STATE"] = STATE_IN_MODULE
        environment |= launch.environment
        environment.setdefault("HOME", str(launch.state))
        # an interpreter started by its loader does not find its own folder
        environment.setdefault("PYTHONHOME", str(root.folder / "usr"))
        for source, target, _ in launch.binds():
            source.mkdir(parents=True, exist_ok=True)
            for name, value in environment.items():
                if name != "PATH":
                    environment[name] = _lead(value, target, source)
        return environment

    def stop(self, module: str) -> None:
        """SIGTERM to the module's process group, SIGKILL if that does not end it."""
        process = self._processes.pop(module, None)
        if process is None:
            return
        for number, seconds in ((signal.SIGTERM, STOP), (signal.SIGKILL, STOP)):
            if process.poll() is not None:
                return
            os.killpg(process.pid, number)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                log.warning("%s does not end on %s", module, number.name)

    def state(self, module: str) -> State | None:
        """Whether the process runs, or how it ended, as Docker would say it."""
        process = self._processes.get(module)
        if process is None:
            return None
        code = process.poll()
        if code is None:
            return State(True)
        return State(False, 128 - code if code < 0 else code)

    def close(self) -> None:
        """End every module: all are asked first, then waited for."""
        for process in self._processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for module in list(self._processes):
            self.stop(module)


def _arguments(root: Root, launch: Launch) -> list[str]:
    """Entrypoint and command: those of `createOptions` replace the image's, as Docker has it."""
    options = launch.create_options
    entrypoint = options.get("Entrypoint")
    command = options.get("Cmd")
    if entrypoint is None:
        entrypoint = root.config.get("Entrypoint") or []
        command = command if command is not None else root.config.get("Cmd")
    arguments = [*_list(entrypoint), *_list(command)]
    if not arguments:
        raise ModuleFailed(f"{launch.image} has no command")
    return arguments


def _list(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [str(part) for part in value or []]


def _lead(value: str, target: str, source: Path) -> str:
    """A setting that names a mounted path, or a URI with one, led to where it really is."""
    scheme = "unix://" if value.startswith("unix://") else ""
    path = value.removeprefix(scheme)
    if path == target or path.startswith(target.rstrip("/") + "/"):
        return f"{scheme}{source}{path[len(target.rstrip('/')) :]}"
    return value
