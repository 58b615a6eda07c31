"""The routes of `$edgeHub`: which messages of modules go where, how urgent, and for how long.

Format: https://learn.microsoft.com/azure/iot-edge/module-composition, schema 1.0 to 1.3. A
condition is one of the hub's routing query language.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgekit.errors import ManifestError
from edgekit.manifest.routes import parse_route
from edgekit_sim.iotedge.errors import DeploymentRefused
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.routing.conditions import Condition, Message, compile_route

UPSTREAM = "$upstream"
LOWEST = 9  # the priority of a route that names none
TIME_TO_LIVE = 7200  # seconds, where nothing is said
SCHEMAS = ("1.0", "1.1", "1.2", "1.3")
_INPUT = re.compile(r"/modules/([^/\"']+)/inputs/([^/\"']+)")


@dataclass(frozen=True)
class EdgeRoute:
    """One route.

    Attributes:
        source: matches `modules/NAME/outputs/OUTPUT` of a message, or `modules/NAME/` of one that
            was sent to no output.
        condition: over the message.
        sink: `$upstream`, or `NAME/INPUT` for an input of a module.
        priority: 0 goes first, 9 last.
        seconds: how long a message may wait.
    """

    source: re.Pattern[str]
    condition: Condition
    sink: str
    priority: int
    seconds: float

    def takes(self, message: Message, output: str) -> bool:
        """Whether it takes a message that was sent to an output ("" for none)."""
        place = f"modules/{message.sender.module_id}/"
        place += f"outputs/{output}" if output else ""
        return bool(self.source.fullmatch(place)) and self.condition(message) is True


@dataclass(frozen=True)
class EdgeRoutes:
    """All routes of a device."""

    routes: tuple[EdgeRoute, ...] = ()

    def sinks(self, message: Message, output: str) -> dict[str, EdgeRoute]:
        """Where a message goes, each place once, by its most urgent route."""
        taking = [route for route in self.routes if route.takes(message, output)]
        by_urgency = sorted(taking, key=lambda route: route.priority, reverse=True)
        return {route.sink: route for route in by_urgency}


def read_edge_routes(properties: Mapping[str, Any]) -> EdgeRoutes:
    """Read the desired properties of `$edgeHub`.

    Raises:
        DeploymentRefused: they are wrong; the message says which route and why.
    """
    if properties.get("schemaVersion") not in SCHEMAS:
        raise DeploymentRefused(412, f"$edgeHub has schema {properties.get('schemaVersion')!r}")
    store = properties.get("storeAndForwardConfiguration") or {}
    seconds = _number(store.get("timeToLiveSecs", TIME_TO_LIVE), "timeToLiveSecs", 2**31)
    if seconds < 0:  # as long as it takes
        seconds = float("inf")
    routes = properties.get("routes") or {}
    if not isinstance(routes, Mapping):
        raise DeploymentRefused(400, "routes of $edgeHub must be an object")
    return EdgeRoutes(tuple(_read(name, route, seconds) for name, route in routes.items()))


def _read(name: str, route: Any, seconds: float) -> EdgeRoute:
    details = route if isinstance(route, Mapping) else {"route": route}
    text = details.get("route")
    if not isinstance(text, str):
        raise DeploymentRefused(400, f"route {name} has no text")
    try:
        parsed = parse_route(text)
        condition = compile_route(parsed.condition or "true")
    except (ManifestError, HubFault) as error:
        raise DeploymentRefused(400, f"route {name}: {error}") from error
    source = parsed.source.removeprefix("/messages").strip("/")
    if source == "twinChangeNotifications":
        raise DeploymentRefused(400, f"route {name}: twin changes are not routed here")
    match = _INPUT.search(parsed.sink)
    return EdgeRoute(
        re.compile(".*".join(re.escape(part) for part in source.split("*"))),
        condition,
        f"{match[1]}/{match[2]}" if match else UPSTREAM,
        int(_number(details.get("priority", LOWEST), f"priority of route {name}", LOWEST)),
        _number(details.get("timeToLiveSecs") or seconds, f"timeToLiveSecs of route {name}"),
    )


def _number(value: Any, what: str, most: float = float("inf")) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value > most:
        raise DeploymentRefused(400, f"{what} is {value!r}")
    return float(value)
