"""What a deployment says, before it takes the hub's shape."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekit.errors import ManifestError
from edgekit.manifest.routes import parse_route

RESTART_POLICIES = ("always", "never", "on-failure", "on-unhealthy")
STATUSES = ("running", "stopped")
PULL_POLICIES = ("on-create", "never")
MAX_STARTUP_ORDER = 4_294_967_295
# a module id of the hub, narrowed to what Docker takes as a container's name
MODULE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")


@dataclass(frozen=True)
class Module:
    """One container on the device.

    Attributes:
        name: the module's id; `edgeAgent` and `edgeHub` for the runtime's own two.
        image: OCI reference, by digest where it can be.
        env: environment variables of the container.
        create_options: body of Docker's `POST /containers/create` without the image.
        restart_policy: one of `RESTART_POLICIES`.
        status: `running` or `stopped`: what the runtime keeps it at.
        startup_order: 0..4294967295, lower starts first; None leaves it to the runtime.
        pull_policy: `on-create` or `never`.
        desired: desired properties of the module's own twin; None leaves the twin alone.
    """

    name: str
    image: str
    env: Mapping[str, str] = field(default_factory=dict)
    create_options: Mapping[str, Any] = field(default_factory=dict)
    restart_policy: str = "always"
    status: str = "running"
    startup_order: int | None = None
    pull_policy: str | None = None
    desired: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not MODULE_NAME.match(self.name):
            raise ManifestError(
                f"{self.name!r} is no module name", "use letters, digits, '-', '_' and '.'"
            )
        for value, known, what in (
            (self.restart_policy, RESTART_POLICIES, "restart policy"),
            (self.status, STATUSES, "status"),
            (self.pull_policy, (None, *PULL_POLICIES), "pull policy"),
        ):
            if value not in known:
                choices = ", ".join(str(choice) for choice in known if choice)
                raise ManifestError(
                    f"module {self.name}: {value!r} is no {what}", f"choose one of {choices}"
                )
        order = self.startup_order
        if order is not None and not 0 <= order <= MAX_STARTUP_ORDER:
            raise ManifestError(
                f"module {self.name}: startupOrder {order} is out of range",
                f"use 0 to {MAX_STARTUP_ORDER}",
            )
        if order is not None and self.name == "edgeAgent":
            raise ManifestError("edgeAgent takes no startupOrder", "remove it: the agent is first")


@dataclass(frozen=True)
class Route:
    """One route of the device's hub.

    Attributes:
        name: its key under `routes`.
        text: `FROM /messages/... [WHERE ...] INTO ...`.
        priority: 0 (first) to 9; None leaves the hub's default.
        time_to_live: seconds a message on this route is kept; None takes the device's.
    """

    name: str
    text: str
    priority: int | None = None
    time_to_live: int | None = None

    def __post_init__(self) -> None:
        parse_route(self.text)
        if self.priority is not None and not 0 <= self.priority <= 9:
            raise ManifestError(f"route {self.name}: priority {self.priority} is not in 0..9")
        if self.time_to_live is not None and self.time_to_live < 0:
            raise ManifestError(f"route {self.name}: time to live {self.time_to_live} is negative")


@dataclass(frozen=True)
class Deployment:
    """Everything that runs on the devices of one group.

    Attributes:
        agent: the runtime's agent, named edgeAgent.
        hub: the runtime's hub, named edgeHub.
        modules: the user's modules, names unique.
        routes: how messages flow, names unique.
        time_to_live: seconds the device's hub keeps messages while it is offline.
        min_docker_version: what the runtime requires of the container engine.
        logging_options: Docker's log driver options, as the runtime's string.
    """

    agent: Module
    hub: Module
    modules: tuple[Module, ...]
    routes: tuple[Route, ...] = ()
    time_to_live: int = 7200
    min_docker_version: str = "v1.25"
    logging_options: str = ""

    def __post_init__(self) -> None:
        if (self.agent.name, self.hub.name) != ("edgeAgent", "edgeHub"):
            raise ManifestError("the runtime's modules are named edgeAgent and edgeHub")
        for what, names in (
            ("module", ["edgeAgent", "edgeHub", *(module.name for module in self.modules)]),
            ("route", [route.name for route in self.routes]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ManifestError(f"{what} {twice[0]} is there twice", "rename one of them")
        if self.time_to_live < 0:
            raise ManifestError(f"time to live {self.time_to_live} is negative")
