"""A route's condition: what its names mean in a message, its body and its sender's twin.

"IoT Hub message routing query syntax" in the service's documentation says what there is. Names are
compared without regard to case where none is written exactly so. A condition that comes to
something else than true, undefined included, does not take the message.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from edgekit_sim.iothub import query
from edgekit_sim.iothub.events import TELEMETRY, tell_apart
from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.query import UNDEFINED, Path
from edgekit_sim.iothub.twins import Json, timestamp

BODY, TWIN = "$body", "$twin"
CHARSETS = ("utf-8", "utf-16", "utf-32")  # those a body may be in to be looked into
# names of system properties in conditions, lower case, and in events
SYSTEM = {
    "$contenttype": "content-type",
    "$contentencoding": "content-encoding",
    "$messageid": "message-id",
    "$correlationid": "correlation-id",
    "$userid": "user-id",
    "$connectiondeviceid": "iothub-connection-device-id",
    "$connectionmoduleid": "iothub-connection-module-id",
    "$enqueuedtime": "iothub-enqueuedtime",
    "$outputname": "iothub-output-name",
    "$interfaceid": "iothub-interface-id",
}


class Message:
    """What a condition looks at.

    Args:
        properties: percent-encoded pairs, as in an MQTT topic.
        body: the payload.
        sender: whose twin `$twin` is.
        source: as the event will say.
    """

    def __init__(
        self, properties: str, body: bytes, sender: Identity, source: str = TELEMETRY
    ) -> None:
        self._properties = properties
        self._body = body
        self.sender = sender
        self._source = source

    @functools.cached_property
    def _told_apart(self) -> tuple[Json, Json]:
        application, system = tell_apart(self._properties)
        system["iothub-connection-device-id"] = self.sender.device_id
        if self.sender.module_id:
            system["iothub-connection-module-id"] = self.sender.module_id
        system["iothub-enqueuedtime"] = timestamp()
        system["iothub-message-source"] = self._source
        if self.sender.twin.model_id:
            system["dt-dataschema"] = self.sender.twin.model_id
        return application, system

    def application(self, name: str) -> Any:
        """An application property."""
        return _member(self._told_apart[0], name)

    def system(self, name: str) -> Any:
        """A system property by its name in a condition, with the `$`."""
        name = SYSTEM.get(name.lower(), name[1:])
        return _member(self._told_apart[1], name)

    @functools.cached_property
    def json(self) -> Any:
        """The body, if it says that it is JSON in one of `CHARSETS`, and is."""
        kind = str(self.system("$contentType")).partition(";")[0].strip().lower()
        charset = str(self.system("$contentEncoding")).lower()
        if kind != "application/json" or charset not in CHARSETS:
            return UNDEFINED
        try:
            return orjson.loads(self._body if charset == "utf-8" else self._body.decode(charset))
        except ValueError:
            return UNDEFINED


Condition = Callable[[Message], Any]


def compile_route(text: str) -> Condition:
    """A route's condition: gives true, false, or anything else for what is neither.

    Raises:
        HubFault: 400, saying at which character what was expected.
    """
    return query.compile_operand(query.parse_route(text), _resolve)


def twin_value(identity: Identity, steps: Sequence[str | int]) -> Any:
    """What a path (`tags`, `properties.desired` ...) leads to in a twin."""
    twin = identity.twin
    document = {
        "tags": twin.tags,
        "properties": {
            "desired": twin.desired.for_service(),
            "reported": twin.reported.for_service(),
        },
    }
    return _walk(document, steps)


def _resolve(path: Path) -> Condition:
    first, rest = str(path.steps[0]), path.steps[1:]
    if first.lower() == BODY:
        whole = not rest or isinstance(rest[0], int)  # the service looks only at its members
        return lambda message: UNDEFINED if whole else _walk(message.json, rest)
    if first.lower() == TWIN:
        return lambda message: twin_value(message.sender, rest)
    name = ".".join(str(step) for step in path.steps)
    if not name.startswith("$"):
        return lambda message: message.application(name)

    def system(message: Message) -> Any:
        value = message.system(name)
        return message.application(name) if value is UNDEFINED else value

    return system


def _walk(value: Any, steps: Sequence[str | int]) -> Any:
    for step in steps:
        if isinstance(value, dict):
            value = _member(value, str(step))
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return UNDEFINED
    return value


def _member(members: Json, name: str) -> Any:
    if name in members:
        return members[name]
    folded = name.lower()
    return next((value for key, value in members.items() if key.lower() == folded), UNDEFINED)
