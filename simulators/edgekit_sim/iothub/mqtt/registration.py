"""Registration with the provisioning service over MQTT."""

import re

import orjson

from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.mqtt.packets import Malformed
from edgekit_sim.iothub.provisioning import Registrant

RESPONSES = "$dps/registrations/res/#"
RETRY_SECONDS = 1
_USER = re.compile(r"([^/]+)/registrations/([^/]+)/api-version=.*")
_REGISTER = re.compile(r"\$dps/registrations/PUT/iotdps-register/\?\$rid=([^&]*)")
_OPERATION = re.compile(
    r"\$dps/registrations/GET/iotdps-get-operationstatus/\?\$rid=([^&]*)&operationId=(.+)"
)


def scope_of(username: str | None, client_id: str) -> str | None:
    """The id scope in the user name of somebody who wants to register; None for all others."""
    match = _USER.fullmatch(username or "")
    return match[1] if match and match[2] == client_id else None


def respond(registrant: Registrant, topic: str, payload: bytes) -> tuple[str, bytes]:
    """Carry out a request; returns topic and payload of the answer.

    Raises:
        Malformed: the topic is none of the provisioning service's.
    """
    register, operation = _REGISTER.fullmatch(topic), _OPERATION.fullmatch(topic)
    request = register or operation
    if request is None:
        raise Malformed(f"nobody may publish to {topic[:200]!r} over this connection")
    try:
        if register:
            answer = registrant.register(_document(payload))
            return _topic(202, request[1]) + f"&retry-after={RETRY_SECONDS}", orjson.dumps(answer)
        return _topic(200, request[1]), orjson.dumps(registrant.operation(request[2]))
    except HubFault as fault:
        body = {"errorCode": fault.status * 1000, "message": str(fault)}
        return _topic(fault.status, request[1]), orjson.dumps(body)


def _topic(status: int, request: str) -> str:
    return f"$dps/registrations/res/{status}/?$rid={request}"


def _document(payload: bytes) -> dict[str, object]:
    try:
        document = orjson.loads(payload.strip() or b"{}")
    except orjson.JSONDecodeError as error:
        raise HubFault(400, "ArgumentInvalid", "the body is no JSON") from error
    if not isinstance(document, dict):
        raise HubFault(400, "ArgumentInvalid", "the body must be a JSON object")
    return document
