"""Cloud-to-device messages as azure-iot-hub sends them through uamqp."""

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from edgekit_sim.amqp.errors import AmqpError
from edgekit_sim.amqp.links import IncomingLink
from edgekit_sim.amqp.message import Message, Value, text_of
from edgekit_sim.iothub.amqp.event_messages import STANDARD
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.faults import THROTTLE, THROTTLED

if TYPE_CHECKING:
    from edgekit_sim.iothub.hub import Hub

CONDITIONS = {
    400: "amqp:not-allowed",
    403: "amqp:resource-limit-exceeded",
    404: "amqp:not-found",
    413: "amqp:link:message-size-exceeded",
    429: "com.microsoft:device-container-throttled",
    503: "com.microsoft:server-busy",
}
_TO = re.compile(r"/?devices/([^/]+)/messages/devicebound", re.IGNORECASE)


class CommandSink:
    """Takes messages for devices.

    Args:
        hub: the hub.
        path: its address.
    """

    def __init__(self, hub: "Hub", path: str) -> None:
        self.path = path
        self._hub = hub

    async def take(self, link: IncomingLink, message: Message) -> None:
        """Queue a message for the device its `to` names; returns when it is on disk.

        Raises:
            AmqpError: it cannot be queued.
        """
        del link
        to = text_of(message.properties.get("to"))
        match = _TO.fullmatch(to)
        if match is None:
            raise AmqpError("amqp:not-allowed", f"no device is at {to[:200]!r}")
        system = {
            key: text_of(message.properties[name])
            for key, name in STANDARD.items()
            if message.properties.get(name) is not None
        }
        system["$.to"] = to
        own = {key: text_of(value) for key, value in message.application.items()}
        try:
            self._hub.quotas.count_command(len(_body(message)))
            if self._hub.faults.active and self._hub.faults.strikes(THROTTLE, unquote(match[1])):
                raise HubFault(429, "ThrottlingException", THROTTLED)
            self._hub.store.refuse_when_full()
            self._hub.commands.put(unquote(match[1]), _body(message), system, own, _expiry(message))
            await self._hub.store.settled()
        except HubFault as fault:
            condition = CONDITIONS.get(fault.status, "amqp:internal-error")
            raise AmqpError(condition, f"{fault.code}: {fault}") from fault


def _body(message: Message) -> bytes:
    if isinstance(message.body, bytes):
        return message.body
    value = message.body.value if isinstance(message.body, Value) else message.body
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise AmqpError("amqp:not-allowed", "the body is neither bytes nor text")


def _expiry(message: Message) -> float | None:
    """When the message ends, seconds since 1970 (UTC)."""
    expiry = message.properties.get("absolute_expiry_time")
    return expiry / 1000 if isinstance(expiry, int) and expiry > 0 else None
