"""What an AMQP client finds in the hub: tokens, management, events, commands and feedback."""

import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.access import SERVICE_CONNECT
from edgekit_sim.iothub.amqp.connection import (
    ACCEPTED,
    AmqpConnection,
    Fountain,
    LinkError,
    Outlet,
    Sink,
)
from edgekit_sim.iothub.amqp.messages import Message
from edgekit_sim.iothub.amqp.types import Described, Int, Timestamp
from edgekit_sim.iothub.commands import Feedback
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.events import PARTITIONS, SYSTEM_KEYS, split_properties

if TYPE_CHECKING:
    from edgekit_sim.iothub.hub import Hub

BATCH = 200  # events read at a time for one receiver
CONDITIONS = {
    400: "amqp:not-allowed",
    401: "amqp:unauthorized-access",
    403: "amqp:resource-limit-exceeded",
    404: "amqp:not-found",
    413: "amqp:link:message-size-exceeded",
}
_EVENTS = re.compile(r"([^/]+)/ConsumerGroups/([^/]+)/Partitions/([0-9]+)", re.IGNORECASE)
_COMMAND = re.compile(r"/?devices/([^/]+)/messages/devicebound", re.IGNORECASE)
_FILTER = re.compile(r"amqp\.annotation\.x-opt-([a-z-]+)\s*>(=?)\s*'?([^']*)'?")


class Nodes:
    """Finds the node of an address, for connections of one hub.

    Args:
        hub: the hub.
        name: its name, and that of its events.
    """

    def __init__(self, hub: "Hub", name: str) -> None:
        self._hub = hub
        self._name = name
        self._receivers: set[EventReceiver] = set()
        self._feedback = FeedbackNode(hub)
        hub.store.on_commit.append(self._committed)

    def connection(self) -> AmqpConnection:
        """A connection to this hub."""
        return AmqpConnection(self._name, self.resolve)

    def resolve(
        self, connection: AmqpConnection, address: str, properties: dict[str, Any], receives: bool
    ) -> Sink | Fountain:
        """The node a client attaches a link to.

        Args:
            connection: the client's.
            address: with or without scheme and host.
            properties: the link's.
            receives: whether the client wants to receive.

        Raises:
            LinkError: nothing is there, or the client has shown no token for it.
        """
        del properties
        path = re.sub(r"^[a-z]+://[^/]*/?", "", address).lstrip("/")
        if path in ("$cbs", "$management"):
            exchange = connection.claims.setdefault(path, self._exchange(connection, path))
            assert isinstance(exchange, Exchange)
            return exchange
        if path.lower() == "messages/devicebound" and not receives:
            _permit(connection)
            return CommandSink(self._hub)
        if path.lower() == "messages/servicebound/feedback" and receives:
            _permit(connection)
            return self._feedback
        if (match := _EVENTS.search(path)) and receives:
            _permit(connection)
            if int(match[3]) >= PARTITIONS:
                raise LinkError("amqp:not-found", f"there is no partition {match[3]}")
            return EventReceiver(self._hub, int(match[3]), self._receivers)
        raise LinkError("amqp:not-found", f"nothing is at {path[:200]!r}")

    def _exchange(self, connection: AmqpConnection, path: str) -> "Exchange":
        def put_token(message: Message) -> Message:
            return _put_token(self._hub, connection, message)

        def manage(message: Message) -> Message:
            return _manage(self._hub, self._name, message)

        return Exchange(put_token if path == "$cbs" else manage)

    def _committed(self) -> None:
        for receiver in list(self._receivers):
            receiver.pump()


def _permit(connection: AmqpConnection) -> None:
    if connection.claims.get("until", 0.0) <= time.time():
        raise LinkError("amqp:unauthorized-access", "no token with the right ServiceConnect")


class Exchange:
    """A node of requests and responses: what is sent in on one link is answered on another."""

    def __init__(self, answer: Callable[[Message], Message]) -> None:
        self._answer = answer
        self._links: list[Outlet] = []
        self._waiting: list[Message] = []

    async def take(self, message: Message) -> None:
        """Answer a request."""
        response = self._answer(message)
        sent = message.properties
        response.properties["correlation_id"] = sent.get("message_id")
        self._waiting.append(response)
        self._pump()

    def _pump(self) -> None:
        for link in self._links:
            while self._waiting and link.credit > 0:
                link.send(self._waiting.pop(0), settled=True)

    def attached(self, link: Outlet) -> None:
        """A client listens for responses."""
        self._links.append(link)

    def credited(self, link: Outlet) -> None:
        """A client takes more responses."""
        del link
        self._pump()

    def settled(self, link: Outlet, tag: int, outcome: int) -> None:
        """Responses are sent settled."""

    def detached(self, link: Outlet) -> None:
        """A client listens no more."""
        self._links.remove(link)


def _status(code: int, description: str, body: Any = None) -> Message:
    application = {
        "status-code": Int(code),
        "status-description": description,
        "statusCode": Int(code),
        "statusDescription": description,
    }
    return Message(body=body, application=application)


def _put_token(hub: "Hub", connection: AmqpConnection, message: Message) -> Message:
    text = message.body.decode() if isinstance(message.body, bytes) else str(message.body)
    try:
        hub.gatekeeper.service(text, SERVICE_CONNECT)
    except HubFault as fault:
        return _status(401, str(fault))
    token = tokens.parse(text)
    assert token is not None
    connection.claims["until"] = float(token.expiry)
    return _status(200, "OK")


def _manage(hub: "Hub", name: str, message: Message) -> Message:
    asked = message.application
    try:
        hub.gatekeeper.service(str(asked.get("security_token") or ""), SERVICE_CONNECT)
    except HubFault as fault:
        return _status(401, str(fault))
    kind = _text(asked.get("type"))
    if _text(asked.get("operation")) != "READ":
        return _status(400, "the only operation is READ")
    if kind == "com.microsoft:eventhub":
        body = {
            "name": name,
            "type": kind,
            "created_at": Timestamp(int(hub.started * 1000)),
            "partition_count": Int(PARTITIONS),
            "partition_ids": [str(number) for number in range(PARTITIONS)],
        }
        return _status(200, "OK", body)
    partition = _text(asked.get("partition"))
    if kind != "com.microsoft:partition" or not partition.isdigit():
        return _status(404, f"nothing of the type {kind!r} is here")
    if int(partition) >= PARTITIONS:
        return _status(404, f"there is no partition {partition}")
    first, last, enqueued = hub.events.extent(int(partition))
    body = {
        "name": name,
        "type": kind,
        "partition": partition,
        "begin_sequence_number": first,
        "last_enqueued_sequence_number": last,
        "last_enqueued_offset": str(last),
        "last_enqueued_time_utc": Timestamp(enqueued),
        "is_partition_empty": last < first,
    }
    return _status(200, "OK", body)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


class EventReceiver:
    """Gives one receiver the events of a partition, from where it asked, as they are committed.

    Args:
        hub: the hub.
        partition: which partition.
        all_receivers: the set it is in while it is attached.
    """

    def __init__(self, hub: "Hub", partition: int, all_receivers: "set[EventReceiver]") -> None:
        self._hub = hub
        self._partition = partition
        self._all = all_receivers
        self._next = 0
        self._link: Outlet | None = None

    def attached(self, link: Outlet) -> None:
        """Begin where the link's filter says; without one, at the first event."""
        self._next = self._begin(link)
        self._link = link
        self._all.add(self)

    def _begin(self, link: Outlet) -> int:
        for value in link.filters.values():
            text = _text(value.value if isinstance(value, Described) else value)
            match = _FILTER.search(text)
            if match is None:
                raise LinkError("amqp:invalid-field", f"the filter {text[:100]!r} is unknown")
            name, inclusive, position = match[1], bool(match[2]), match[3]
            first, last, _ = self._hub.events.extent(self._partition)
            if name in ("offset", "sequence-number"):
                if position == "@latest":
                    return last + 1
                number = int(position) if re.fullmatch(r"-?\d{1,18}", position) else None
                if number is None:
                    raise LinkError("amqp:invalid-field", f"the position {position[:40]!r}")
                return max(first, number + (not inclusive))
            if name == "enqueued-time" and re.fullmatch(r"\d{1,15}", position):
                return self._hub.events.offset_after(self._partition, int(position))
            raise LinkError("amqp:invalid-field", f"events cannot be filtered by {name!r}")
        return 0

    def credited(self, link: Outlet) -> None:
        """The receiver takes more."""
        del link
        self.pump()

    def pump(self) -> None:
        """Send what is there, as far as the receiver takes it."""
        link = self._link
        while link is not None and link.credit > 0:
            rows = self._hub.events.rows(self._partition, self._next, min(link.credit, BATCH))
            if not rows:
                return
            for row in rows:
                self._next = row[2] + 1
                link.send(event_message(row, self._hub), settled=True)

    def settled(self, link: Outlet, tag: int, outcome: int) -> None:
        """Events are sent settled."""

    def detached(self, link: Outlet) -> None:
        """The receiver has gone."""
        del link
        self._link = None
        self._all.discard(self)


# system properties that are standard properties of an AMQP message, by their keys in a topic
_STANDARD = {
    "$.mid": "message_id",
    "$.cid": "correlation_id",
    "$.uid": "user_id",
    "$.ct": "content_type",
    "$.ce": "content_encoding",
}


def event_message(row: Any, hub: "Hub") -> Message:
    """An event as azure-eventhub reads it from an IoT Hub."""
    _, _, offset, enqueued, device_id, module_id, source, properties, body = row
    message = Message(body=body)
    identity = hub.registry.find(device_id, module_id)
    message.annotations = {
        "x-opt-sequence-number": offset,
        "x-opt-offset": str(offset),
        "x-opt-enqueued-time": Timestamp(enqueued),
        "iothub-connection-device-id": device_id,
        **({"iothub-connection-module-id": module_id} if module_id else {}),
        "iothub-connection-auth-method": _AUTH_METHOD,
        "iothub-connection-auth-generation-id": identity.generation_id if identity else "",
        "iothub-enqueuedtime": Timestamp(enqueued),
        "iothub-message-source": source,
    }
    for key, value in split_properties(properties):
        if key in _STANDARD:
            message.properties[_STANDARD[key]] = value
        elif key in SYSTEM_KEYS:
            message.annotations[SYSTEM_KEYS[key]] = value
        elif not key.startswith("$."):
            message.application[key] = value
    if message.properties:  # a reader of some SDKs fails over properties without content type
        message.properties.setdefault("content_type", "application/octet-stream")
    return message


_AUTH_METHOD = orjson.dumps(
    {"scope": "device", "type": "sas", "issuer": "iothub", "acceptingIpFilterRule": None}
).decode()


class CommandSink:
    """Takes cloud-to-device messages, as uamqp sends them."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub

    async def take(self, message: Message) -> None:
        """Queue a message for the device its `to` names; returns when it is on disk.

        Raises:
            LinkError: it cannot be queued.
        """
        to = _text(message.properties.get("to"))
        match = _COMMAND.fullmatch(to)
        if match is None:
            raise LinkError("amqp:not-allowed", f"no device is at {to[:200]!r}")
        system = {
            key: _text(message.properties[name])
            for key, name in _STANDARD.items()
            if message.properties.get(name) is not None
        }
        system["$.to"] = to
        expiry = message.properties.get("absolute_expiry_time")
        body = message.body if isinstance(message.body, bytes) else orjson.dumps(message.body)
        own = {key: _text(value) for key, value in message.application.items()}
        try:
            self._hub.commands.put(match[1], body, system, own, expiry / 1000 if expiry else None)
        except HubFault as fault:
            condition = CONDITIONS.get(fault.status, "amqp:internal-error")
            raise LinkError(condition, f"{fault.code}: {fault}") from fault
        await self._hub.store.committed()


class FeedbackNode:
    """Gives feedback on cloud-to-device messages to whoever listens."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._links: list[Outlet] = []
        self._held: dict[int, Feedback] = {}
        self._last = 0
        hub.commands.on_feedback.append(self._pump)

    def attached(self, link: Outlet) -> None:
        """A receiver listens."""
        self._links.append(link)

    def credited(self, link: Outlet) -> None:
        """A receiver takes more."""
        del link
        self._pump()

    def _pump(self) -> None:
        for link in self._links:
            while link.credit > 0 and (batch := self._hub.commands.receive_feedback()):
                self._last += 1
                self._held[self._last] = batch
                content_type = "application/vnd.microsoft.iothub.feedback.json"
                body = orjson.dumps(batch.records)
                message = Message(body, {"content_type": content_type, "message_id": batch.lock})
                link.send(message, self._last, settled=False)

    def settled(self, link: Outlet, tag: int, outcome: int) -> None:
        """A receiver has completed a batch, or gives it back."""
        del link
        batch = self._held.pop(tag, None)
        if batch is None:
            return
        if outcome == ACCEPTED:
            self._hub.commands.complete_feedback(batch.lock)
        else:
            self._hub.commands.abandon_feedback(batch.lock)

    def detached(self, link: Outlet) -> None:
        """A receiver has gone."""
        self._links.remove(link)
