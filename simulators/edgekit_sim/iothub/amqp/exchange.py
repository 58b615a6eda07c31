"""Requests and responses: `$cbs`, which takes tokens, and `$management`, which tells of events."""

import re
from collections.abc import Callable
from typing import Any

from edgekit_sim.amqp.composites import Outcome
from edgekit_sim.amqp.errors import AmqpError
from edgekit_sim.amqp.links import IncomingLink, OutgoingLink
from edgekit_sim.amqp.message import Message, Value, text_of, write_message
from edgekit_sim.amqp.types import Array, Int, Timestamp
from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.access import SERVICE_CONNECT, Gatekeeper
from edgekit_sim.iothub.amqp.claims import Claim, Claims
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.events import PARTITIONS, EventLog

CBS, MANAGEMENT = "$cbs", "$management"
WAITING_LIMIT = 100  # responses that nobody has taken
EVENT_HUB, PARTITION = "com.microsoft:eventhub", "com.microsoft:partition"

Answer = Callable[[Message], Message]


class Exchange:
    """One session's requests to one of the two: answered on the session's link back.

    Args:
        answer: makes the response to a request.
    """

    path = ""  # needs no claim: `$cbs` is where they come from, `$management` asks by itself

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._links: list[OutgoingLink] = []
        self._waiting: list[tuple[str, Message]] = []

    async def take(self, link: IncomingLink, message: Message) -> None:
        """Answer a request."""
        del link
        if len(self._waiting) >= WAITING_LIMIT:
            raise AmqpError("amqp:resource-limit-exceeded", "nobody takes the responses")
        response = self._answer(message)
        asked = message.properties
        response.properties["correlation_id"] = asked.get("message_id")
        self._waiting.append((str(asked.get("reply_to") or ""), response))
        for one in list(self._links):
            self.sendable(one)

    def attached(self, link: OutgoingLink) -> None:
        """The client listens for responses."""
        self._links.append(link)

    def sendable(self, link: OutgoingLink) -> None:
        """Send the responses that are for a link."""
        here = link.target.address if link.target is not None else ""
        for one in list(self._waiting):
            reply_to, response = one
            if link.sendable and (len(self._links) == 1 or reply_to in ("", here)):
                self._waiting.remove(one)
                link.send(write_message(response), b"response", settled=True)

    def settled(self, link: OutgoingLink, tag: bytes, outcome: Outcome) -> None:
        """Responses are sent settled."""

    def detached(self, link: OutgoingLink) -> None:
        """The client listens no more."""
        self._links.remove(link)


def token_answer(gatekeeper: Gatekeeper, claims: Claims) -> Answer:
    """What answers requests to `$cbs`; what a token proves is added to the client's claims."""

    def answer(request: Message) -> Message:
        if text_of(request.application.get("operation")) != "put-token":
            return _status(400, "the only operation is put-token")
        text = text_of(request.body.value if isinstance(request.body, Value) else request.body)
        try:
            gatekeeper.service(text, SERVICE_CONNECT)
        except HubFault as fault:
            return _status(401, str(fault))
        token = tokens.parse(text)
        assert token is not None
        _, _, path = re.sub("^[a-z]+://", "", token.resource).partition("/")
        rights = gatekeeper.policies[token.policy or ""].rights
        claims.add(Claim(path.lower().strip("/"), rights, float(token.expiry)))
        return _status(200, "OK")

    return answer


def management_answer(
    gatekeeper: Gatekeeper, events_of: Callable[[str], EventLog | None], started: float
) -> Answer:
    """What answers requests to `$management`: READ of an event hub and its partitions.

    Args:
        gatekeeper: checks tokens.
        events_of: the events of an event hub by its name; None when there is none.
        started: when the hub was, seconds since 1970 (UTC).
    """

    def answer(request: Message) -> Message:
        asked = {key: text_of(value) for key, value in request.application.items()}
        try:
            gatekeeper.service(asked.get("security_token"), SERVICE_CONNECT)
        except HubFault as fault:
            return _status(401, str(fault))
        if asked.get("operation") != "READ":
            return _status(400, "the only operation is READ")
        name = asked.get("name", "")
        events = events_of(name)
        if events is None:
            return _status(404, f"there is no event hub {name[:60]!r}")
        if asked.get("type") == EVENT_HUB:
            return _status(200, "OK", _event_hub(name, started))
        if asked.get("type") == PARTITION:
            partition = asked.get("partition", "")
            if partition not in map(str, range(PARTITIONS)):
                return _status(404, f"there is no partition {partition[:20]!r}")
            return _status(200, "OK", _partition(name, events, partition))
        return _status(404, f"nothing of the type {asked.get('type', '')[:60]!r} is here")

    return answer


def _event_hub(name: str, started: float) -> dict[str, Any]:
    return {
        "name": name,
        "type": EVENT_HUB,
        "created_at": Timestamp(int(started * 1000)),
        "partition_count": Int(PARTITIONS),
        "partition_ids": Array(str, tuple(str(number) for number in range(PARTITIONS))),
    }


def _partition(name: str, events: EventLog, partition: str) -> dict[str, Any]:
    first, last, enqueued = events.extent(int(partition))
    return {
        "name": name,
        "type": PARTITION,
        "partition": partition,
        "begin_sequence_number": first,
        "last_enqueued_sequence_number": last,
        "last_enqueued_offset": str(last),
        "last_enqueued_time_utc": Timestamp(enqueued),
        "is_partition_empty": last < first,
    }


def _status(code: int, description: str, body: Any = None) -> Message:
    application = {
        "status-code": Int(code),
        "status-description": description,
        "statusCode": Int(code),  # the older spelling, which uamqp looks for by default
        "statusDescription": description,
    }
    return Message(body=Value(body), application=application)
