"""The desired properties of `$edgeAgent`, read into what shall run.

Format: https://learn.microsoft.com/azure/iot-edge/module-edgeagent-edgehub, schema 1.0 and 1.1.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgekit_sim.iotedge.errors import DeploymentRefused

SCHEMAS = ("1.0", "1.1")
STATUSES = ("running", "stopped")
RESTART_POLICIES = ("always", "never", "on-failure", "on-unhealthy")
LAST = 4_294_967_295  # startupOrder of a module that names none


@dataclass(frozen=True)
class DesiredModule:
    """One module as the deployment wants it.

    Attributes:
        settings: as they stand in the deployment, for the report.
        create_options: body of Docker's container creation, its chunks joined.
    """

    name: str
    image: str
    settings: Mapping[str, Any]
    create_options: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    status: str = "running"
    restart_policy: str = "always"
    pull_policy: str = "on-create"
    startup_order: int = LAST
    version: str = ""

    def replaces(self, other: "DesiredModule") -> bool:
        """Whether taking this in place of `other` needs a new container.

        Restart policy, status and order are the supervisor's business; the container stays.
        """
        return (self.image, self.create_options, self.environment) != (
            other.image,
            other.create_options,
            other.environment,
        )


@dataclass(frozen=True)
class Desired:
    """A whole deployment.

    Attributes:
        version: `$version` of the desired properties; -1 before there is any.
        system: `systemModules` as they stand, for the report.
        runtime: `runtime` as it stands.
    """

    version: int = -1
    schema: str = ""
    modules: tuple[DesiredModule, ...] = ()
    system: Mapping[str, Any] = field(default_factory=dict)
    runtime: Mapping[str, Any] = field(default_factory=dict)


def read_desired(properties: Mapping[str, Any]) -> Desired:
    """Read desired properties; without a `schemaVersion` nothing is deployed yet.

    Raises:
        DeploymentRefused: 412 for another schema, 400 for anything that does not read.
    """
    version = int(properties.get("$version", -1))
    schema = properties.get("schemaVersion")
    if schema is None:
        return Desired(version)
    if schema not in SCHEMAS:
        raise DeploymentRefused(412, f"schemaVersion {schema!r} is not one of {', '.join(SCHEMAS)}")
    modules = _object(properties.get("modules", {}), "modules")
    read = [_module(name, _object(module, name)) for name, module in modules.items()]
    read.sort(key=lambda module: (module.startup_order, module.name))
    return Desired(
        version,
        schema,
        tuple(read),
        _object(properties.get("systemModules", {}), "systemModules"),
        _object(properties.get("runtime", {}), "runtime"),
    )


def _module(name: str, module: Mapping[str, Any]) -> DesiredModule:
    settings = _object(module.get("settings", {}), f"{name}.settings")
    image = settings.get("image")
    if not isinstance(image, str) or not image:
        raise DeploymentRefused(400, f"module {name} names no image")
    order = module.get("startupOrder", LAST)
    if type(order) is not int or not 0 <= order <= LAST:
        raise DeploymentRefused(400, f"module {name} has startupOrder {order!r}")
    environment = _object(module.get("env", {}), f"{name}.env")
    return DesiredModule(
        name=name,
        image=image,
        settings=settings,
        create_options=join_create_options(name, settings),
        environment={key: _variable(name, key, entry) for key, entry in environment.items()},
        status=_choice(name, module, "status", STATUSES),
        restart_policy=_choice(name, module, "restartPolicy", RESTART_POLICIES),
        pull_policy=_choice(name, module, "imagePullPolicy", ("on-create", "never")),
        startup_order=order,
        version=str(module.get("version", "")),
    )


def join_create_options(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """`createOptions`, `createOptions01` .. `createOptions99`, joined and parsed.

    Raises:
        DeploymentRefused: a gap between the chunks, or not a JSON object.
    """
    keys = ["createOptions", *(f"createOptions{number:02}" for number in range(1, 100))]
    there = [key in settings for key in keys]
    count = there.index(False) if False in there else len(keys)
    if any(there[count:]):
        raise DeploymentRefused(
            400, f"module {name} has a gap before {keys[there.index(True, count)]}"
        )
    text = "".join(str(settings[key]) for key in keys[:count])
    try:
        options = json.loads(text or "{}")
    except ValueError as error:
        raise DeploymentRefused(400, f"module {name} has createOptions that are no JSON") from error
    return dict(_object(options, f"{name}.createOptions"))


def _variable(module: str, name: str, entry: Any) -> str:
    value = entry.get("value") if isinstance(entry, dict) else None
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise DeploymentRefused(400, f"module {module} has env {name} without a value")
    return str(value)


def _choice(name: str, module: Mapping[str, Any], key: str, known: tuple[str, ...]) -> str:
    value = module.get(key, known[0])
    if value not in known:
        raise DeploymentRefused(400, f"module {name} has {key} {value!r}")
    return str(value)


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DeploymentRefused(400, f"{where} is no object")
    return value
