"""What routes would do with a message: the real service's "test route" and "test all routes".

A trial message has `body` (text), `appProperties` and `systemProperties`, and beside it may stand a
`twin` with `tags` and `properties`. A condition comes to `true`, `false` or `undefined`.
"""

import re
from typing import Any

import orjson

from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.events import SYSTEM_KEYS
from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.properties import encode_properties
from edgekit_sim.iothub.routing.conditions import SYSTEM, Message
from edgekit_sim.iothub.routing.configuration import SOURCES, Routing, read_route
from edgekit_sim.iothub.twins import Json, Section

_TOPIC_KEYS = {name: key for key, name in SYSTEM_KEYS.items()}
_POSITION = re.compile(r"character (\d+): (.*)", re.DOTALL)


def try_route(document: Json) -> Json:
    """Try one route: `{"route": {...}, "message": {...}, "twin": {...}}`.

    Raises:
        HubFault: 400, when the document is not so; a condition that is wrong is a result.
    """
    message = _message(document)
    try:
        route = read_route(document.get("route"))
    except HubFault as fault:
        match = _POSITION.search(str(fault))
        if match is None:
            raise
        place = {"line": 1, "column": int(match[1])}
        error = {"message": match[2], "severity": "error", "location": {"start": place}}
        return {"result": "undefined", "details": {"compilationErrors": [error]}}
    value = route.matches(message)
    result = str(value).lower() if isinstance(value, bool) else "undefined"
    return {"result": result, "details": {"compilationErrors": []}}


def try_routes(document: Json, routing: Routing) -> Json:
    """Try the routes of a source: `{"routingSource": ..., "message": {...}, "twin": {...}}`.

    Returns:
        The routes that would take the message, each under `properties`.

    Raises:
        HubFault: 400, when the document is not so.
    """
    source = document.get("routingSource", "DeviceMessages")
    if source not in SOURCES:
        raise HubFault(400, "RoutingInvalid", f"routingSource is none of {', '.join(SOURCES)}")
    message = _message(document)
    written = routing.document()["routes"]
    taking = [
        {"properties": shown}
        for route, shown in zip(routing.routes, written, strict=True)
        if route.is_enabled and route.source == source and route.matches(message) is True
    ]
    return {"routes": taking}


def _message(document: Json) -> Message:
    message = _object(document, "message")
    body = message.get("body", "")
    own = _object(message, "appProperties")
    system = _object(message, "systemProperties")
    properties: Json = {key: _text(value) for key, value in own.items()}
    for name, value in system.items():
        known = SYSTEM.get(f"${name.lower()}", name)
        if known in _TOPIC_KEYS:
            properties[_TOPIC_KEYS[known]] = _text(value)
    sender = Identity(
        str(system.get("connectionDeviceId") or system.get("iothub-connection-device-id") or ""),
        str(system.get("connectionModuleId") or system.get("iothub-connection-module-id") or ""),
    )
    twin = _object(document, "twin")
    sender.twin.tags = _object(twin, "tags")
    sections = _object(twin, "properties")
    sender.twin.desired = Section(_object(sections, "desired"))
    sender.twin.reported = Section(_object(sections, "reported"))
    content = body if isinstance(body, str) else orjson.dumps(body).decode()
    return Message(encode_properties(properties), _encoded(content, system), sender)


def _encoded(body: str, system: Json) -> bytes:
    """The body in the encoding the message says; in UTF-8 where that is none."""
    try:
        return body.encode(str(system.get("contentEncoding") or "utf-8"))
    except LookupError:
        return body.encode()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _object(document: Json, name: str) -> Json:
    value = document.get(name) or {}
    if not isinstance(value, dict):
        raise HubFault(400, "ArgumentInvalid", f"{name} must be a JSON object")
    return value
