"""Feedback on cloud-to-device messages, and notices of uploaded files: for one receiver each."""

import uuid
from dataclasses import dataclass, field

import orjson

from edgekit_sim.amqp.composites import Accepted, Outcome, Rejected, Released
from edgekit_sim.amqp.links import OutgoingLink
from edgekit_sim.amqp.message import Message, write_message
from edgekit_sim.iothub.amqp.client import Client
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.notices import Notices

FEEDBACK_TYPE = "application/vnd.microsoft.iothub.feedback.json"
FILE_TYPE = "application/vnd.microsoft.iothub.filenotification.json"


@dataclass
class Queue:
    """Notices of one kind, and who listens for them.

    Attributes:
        content_type: of the messages.
        notices: the notices.
        as_list: whether a message has a list of them, or one.
        receivers: who listens now.
    """

    content_type: str
    notices: Notices
    as_list: bool
    receivers: list["NoticeReceiver"] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.notices.on_new.append(self.pump)

    def pump(self) -> None:
        """There is something new."""
        for one in list(self.receivers):
            one.pump()


class NoticeReceiver:
    """Gives one receiver what a queue has.

    Args:
        queue: the queue.
        client: whose it is.
        path: the address it was found at.
    """

    def __init__(self, queue: Queue, client: Client, path: str) -> None:
        self.path = path
        self._queue = queue
        self._client = client
        self._link: OutgoingLink | None = None
        self._held: dict[bytes, str] = {}

    def attached(self, link: OutgoingLink) -> None:
        """The client listens."""
        self._link = link
        self._queue.receivers.append(self)

    def sendable(self, link: OutgoingLink) -> None:
        """Send what is there."""
        while link.sendable and (delivery := self._queue.notices.receive()) is not None:
            tag = uuid.uuid4().bytes
            self._held[tag] = delivery.lock
            body = delivery.documents if self._queue.as_list else delivery.documents[0]
            properties = {
                "message_id": delivery.lock,
                "content_type": self._queue.content_type,
                "content_encoding": "utf-8",
            }
            link.send(write_message(Message(orjson.dumps(body), properties)), tag)
            if link.presettled:
                self.settled(link, tag, Accepted())
        link.drained()

    def pump(self) -> None:
        """There is something new."""
        if self._link is not None and self._link.sendable:
            self.sendable(self._link)
            self._client.endpoint.flush()

    def settled(self, link: OutgoingLink, tag: bytes, outcome: Outcome) -> None:
        """The client has completed (or rejected) a notice, or gives it back."""
        del link
        lock = self._held.pop(tag, None)
        if lock is None:
            return
        try:
            if isinstance(outcome, Accepted | Rejected):
                self._queue.notices.complete(lock)
            else:
                self._queue.notices.abandon(lock)
        except HubFault:
            return  # it held the notice for too long: somebody else has it now

    def detached(self, link: OutgoingLink) -> None:
        """The client has gone: what it held is for others."""
        self._link = None
        self._queue.receivers.remove(self)
        for tag in list(self._held):
            self.settled(link, tag, Released())
