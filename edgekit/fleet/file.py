"""fleet.yaml: device groups, and what runs in each."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from edgekit.errors import ManifestError, RegistryError, WorkspaceError
from edgekit.fleet.images import ImageResolver, resolve
from edgekit.fleet.source import Source, parse_source, read_source, substitute
from edgekit.manifest import Deployment, Module, Route, build, check
from edgekit.manifest.checks import Severity
from edgekit.manifest.conditions import check_condition, of_tags
from edgekit.manifest.routes import parse_route
from edgekit.manifest.secrets import looks_secret, secrets
from edgekit.manifest.specification import MAX_STARTUP_ORDER, MODULE_NAME

SCHEMA = 1
AGENT_IMAGE = "mcr.microsoft.com/azureiotedge-agent:1.5"
HUB_IMAGE = "mcr.microsoft.com/azureiotedge-hub:1.5"
MOST_PRIORITY = 99_999

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=40)]
T = TypeVar("T")


def _explained(check_text: Callable[[str], object]) -> Callable[[str], str]:
    """Turn a ManifestError into the ValueError that pydantic collects with its place."""

    def validate(text: str) -> str:
        try:
            check_text(text)
        except ManifestError as error:
            raise ValueError(f"{error}; {error.hint}" if error.hint else str(error)) from error
        return text

    return validate


def _module_name(name: str) -> str:
    if name in ("edgeAgent", "edgeHub"):
        raise ValueError(f"{name} stands under runtime:, not under modules:")
    if not MODULE_NAME.match(name):
        raise ValueError("a module's name takes letters, digits, '-', '_' and '.'")
    return name


def _env_value(value: Any) -> Any:
    if isinstance(value, bool | float):
        raise ValueError(f'write it in quotes: "{str(value).lower()}"')
    return str(value) if isinstance(value, int) else value


ModuleName = Annotated[str, AfterValidator(_module_name)]
EnvValue = Annotated[str, BeforeValidator(_env_value)]
RouteText = Annotated[str, AfterValidator(_explained(parse_route))]
Condition = Annotated[str, AfterValidator(_explained(check_condition))]
TagValue = pydantic.StrictStr | pydantic.StrictBool | pydantic.StrictInt
TagName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ContainerFile(_Strict):
    """What one container is made from; the runtime's two take no more than this."""

    image: str = Field(min_length=1)
    env: dict[str, EnvValue] = {}
    createOptions: dict[str, Any] = {}  # noqa: N815  (the manifest's own name)
    imagePullPolicy: Literal["on-create", "never"] | None = None  # noqa: N815


class AgentFile(ContainerFile):
    """The runtime's agent."""

    image: str = AGENT_IMAGE


class HubFile(ContainerFile):
    """The runtime's hub; it must open the ports through which its modules and devices come in."""

    image: str = HUB_IMAGE
    createOptions: dict[str, Any] = {  # noqa: N815
        "HostConfig": {
            "PortBindings": {
                port: [{"HostPort": port.removesuffix("/tcp")}]
                for port in ("443/tcp", "5671/tcp", "8883/tcp")
            }
        }
    }
    startupOrder: int = Field(default=0, ge=0, le=MAX_STARTUP_ORDER)  # noqa: N815


class RuntimeFile(_Strict):
    """The IoT Edge runtime of all groups."""

    agent: AgentFile = AgentFile()
    hub: HubFile = Field(default_factory=HubFile)
    minDockerVersion: str = "v1.25"  # noqa: N815


class ModuleFile(ContainerFile):
    """One module of a group."""

    restartPolicy: Literal["always", "never", "on-failure", "on-unhealthy"] = "always"  # noqa: N815
    status: Literal["running", "stopped"] = "running"
    startupOrder: int | None = Field(None, ge=0, le=MAX_STARTUP_ORDER)  # noqa: N815
    desired: dict[str, Any] | None = None


class RouteFile(_Strict):
    """A route with its priority or time to live."""

    route: RouteText
    priority: int | None = Field(None, ge=0, le=9)
    timeToLiveSecs: int | None = Field(None, ge=0)  # noqa: N815


class GroupFile(_Strict):
    """Devices that are treated alike, and what runs on them."""

    target: Condition | None = None
    tags: dict[TagName, TagValue | list[TagValue]] | None = None
    priority: int = Field(10, ge=0, le=MOST_PRIORITY)
    modules: dict[ModuleName, ModuleFile] = Field(min_length=1, max_length=50)
    routes: dict[str, RouteText | RouteFile] = {}
    timeToLiveSecs: int = Field(7200, ge=0)  # noqa: N815

    @pydantic.model_validator(mode="after")
    def _one_target(self) -> "GroupFile":
        if (self.target is None) == (self.tags is None):
            raise ValueError("say which devices: either target: or tags:")
        if self.tags is not None and (not self.tags or [] in self.tags.values()):
            raise ValueError('tags: is empty; for every device write target: "*"')
        return self

    @property
    def condition(self) -> str:
        """The hub's target condition."""
        return self.target if self.target is not None else of_tags(self.tags or {})


class FleetFile(_Strict):
    """The whole file."""

    schemaVersion: Literal[1] = Field(alias="schema")  # noqa: N815
    fleet: Name
    runtime: RuntimeFile = RuntimeFile()
    groups: dict[Name, GroupFile] = Field(min_length=1)


@dataclass(frozen=True)
class Group:
    """A group ready for the hub.

    Attributes:
        name: its name in the file.
        condition: the hub's target condition.
        priority: the file's priority, 0..99999.
        manifest: its deployment manifest, images by digest.
        modules: the names of its modules.
    """

    name: str
    condition: str
    priority: int
    manifest: dict[str, Any]
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Fleet:
    """A fleet file with everything resolved.

    Attributes:
        name: the fleet's name.
        groups: in the order of the file.
    """

    name: str
    groups: tuple[Group, ...]

    def group(self, name: str) -> Group:
        """The group called `name`.

        Raises:
            ManifestError: there is none.
        """
        for group in self.groups:
            if group.name == name:
                return group
        names = ", ".join(group.name for group in self.groups)
        raise ManifestError(f"fleet {self.name} has no group {name}", f"it has {names}")


def load_fleet(path: Path, images: ImageResolver, *, refuse: bool = True) -> Fleet:
    """Read a fleet file, resolve its images and build every group's manifest.

    Args:
        path: the YAML file.
        images: asked for the image of each model reference, see `edgekit.fleet.images`.
        refuse: raise when the hub would refuse a manifest; False leaves that to `check`.

    Raises:
        ManifestError: one line with the file, the line in it, the place and what is wrong.
    """
    return _fleet(read_source(path), images, refuse)


def parse_fleet(text: str, images: ImageResolver, name: str = "fleet.yaml") -> Fleet:
    """The same as `load_fleet` from text; `name` is how messages call it."""
    return _fleet(parse_source(text.encode(), name), images)


def load_names(path: Path) -> tuple[str, dict[str, str]]:
    """The fleet's name and each group's target condition, without resolving any image."""
    file = _validated(read_source(path))
    return file.fleet, {name: group.condition for name, group in file.groups.items()}


def _validated(source: Source) -> FleetFile:
    if not isinstance(source.data, dict):
        raise ManifestError(f"{source.name} is no fleet file", "see docs/fleet.md for one")
    try:
        return FleetFile.model_validate(source.data)
    except ValidationError as error:
        raise _one_line(source, error) from error


def _one_line(source: Source, error: ValidationError) -> ManifestError:
    problems = error.errors(include_url=False)
    first = problems[0]
    # the last part of a location may be pydantic's own: a branch of a union, '[key]'
    path = [part for part in first["loc"] if _is_written(source, part)]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        path, message = list(first["loc"]), "is missing"
    elif first["type"] == "extra_forbidden":
        message = "is not known here"
    elif not isinstance(first["input"], dict | list):
        message += f", not {str(first['input'])[:60]!r}" if first["type"] != "value_error" else ""
    others = len({problem["loc"] for problem in problems}) - 1
    more = f" (and {others} more)" if others else ""
    return ManifestError(f"{source.place(path)}: {message}{more}")


def _is_written(source: Source, part: str | int) -> bool:
    return isinstance(part, int) or _has_key(source.data, part)


def _has_key(data: Any, key: str) -> bool:
    if isinstance(data, dict):
        return key in data or any(_has_key(value, key) for value in data.values())
    return isinstance(data, list) and any(_has_key(value, key) for value in data)


def _fleet(source: Source, images: ImageResolver, refuse: bool = True) -> Fleet:
    file = _validated(source)
    _no_secrets(source)
    groups = [
        _group(source, file.runtime, name, group, images) for name, group in file.groups.items()
    ]
    if refuse:
        for group in groups:
            _refuse(source, group.name, group.manifest)
    return Fleet(file.fleet, tuple(groups))


def _group(
    source: Source, runtime: RuntimeFile, name: str, group: GroupFile, images: ImageResolver
) -> Group:
    modules = []
    for module_name, module in group.modules.items():
        path = ("groups", name, "modules", module_name)
        image = _placed(source, (*path, "image"), partial(_image, module.image, images))
        modules.append(
            Module(
                name=module_name,
                image=image,
                env=_environment(source, path, module.env),
                create_options=module.createOptions,
                restart_policy=module.restartPolicy,
                status=module.status,
                startup_order=module.startupOrder,
                pull_policy=module.imagePullPolicy,
                desired=module.desired,
            )
        )
    deployment = Deployment(
        agent=_system(source, "agent", runtime.agent),
        hub=_system(source, "hub", runtime.hub),
        modules=tuple(modules),
        routes=tuple(map(_route, group.routes, group.routes.values())),
        time_to_live=group.timeToLiveSecs,
        min_docker_version=runtime.minDockerVersion,
    )
    manifest = _placed(source, ("groups", name), lambda: build(deployment))
    return Group(name, group.condition, group.priority, manifest, tuple(group.modules))


def _image(text: str, images: ImageResolver) -> str:
    return resolve(substitute(text), images)


def _system(source: Source, role: str, file: AgentFile | HubFile) -> Module:
    path = ("runtime", role)
    return Module(
        name="edgeAgent" if role == "agent" else "edgeHub",
        image=_placed(source, (*path, "image"), lambda: substitute(file.image)),
        env=_environment(source, path, file.env),
        create_options=file.createOptions,
        startup_order=file.startupOrder if isinstance(file, HubFile) else None,
        pull_policy=file.imagePullPolicy,
    )


def _route(name: str, route: str | RouteFile) -> Route:
    if isinstance(route, str):
        return Route(name, route)
    return Route(name, route.route, route.priority, route.timeToLiveSecs)


def _environment(source: Source, path: tuple[str, ...], env: dict[str, str]) -> dict[str, str]:
    values = {}
    for key, text in env.items():
        here = (*path, "env", key)
        values[key] = _placed(source, here, partial(substitute, text))
        reason = looks_secret(key, values[key])
        if reason:
            raise ManifestError(
                f"{source.place(here)}: {reason}; whoever may read the hub could read it",
                f"mount it as a file on the device and set {key}_FILE to its path",
            )
    return values


def _placed(source: Source, path: tuple[str, ...], make: Callable[[], T]) -> T:
    try:
        return make()
    except (ManifestError, RegistryError, WorkspaceError) as error:
        raise ManifestError(f"{source.place(path)}: {error}", error.hint) from error


def _refuse(source: Source, group: str, manifest: dict[str, Any]) -> None:
    """Raise the first thing that the hub would refuse."""
    errors = [found for found in check(manifest) if found.severity is Severity.ERROR]
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise ManifestError(
            f"{source.place(('groups', group))}: {errors[0].path}: {errors[0].message}{more}",
            "see them all with: edgekit manifest check " + source.name,
        )


def _no_secrets(source: Source) -> None:
    """Refuse a secret in what is written for the hub to keep."""
    parts = {("runtime",): source.data.get("runtime", {})} | {
        ("groups", name, "modules"): group["modules"]
        for name, group in source.data["groups"].items()
    }
    for root, part in parts.items():
        for path, reason in secrets(part, root):
            raise ManifestError(
                f"{source.place(path)}: {reason}; whoever may read the hub could read it",
                "mount it as a file on the device and give its path",
            )
