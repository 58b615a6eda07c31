"""Cloud-to-device messages: a queue for each device, with expiry, delivery count and feedback.

A message waits until its device takes it. What was sent and not acknowledged when the connection
ends is sent again; after ten times it is given up. Who asked for it (`iothub-ack`) is told the end
by feedback, a notice for the service side.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import orjson

from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.notices import Notices
from edgekit_sim.iothub.registry import Registry
from edgekit_sim.iothub.store import Store
from edgekit_sim.iothub.twins import timestamp

QUEUE_LIMIT = 50  # messages a device may have waiting
BODY_LIMIT = 64 * 1024  # bytes with all properties
DELIVERIES = 10  # attempts
LIVES_SECONDS = 3600.0  # unless it says otherwise
LONGEST_SECONDS = 48 * 3600.0
TOGETHER = 100  # records of feedback that a receiver gets at once
SUCCESS, EXPIRED, GIVEN_UP, REJECTED, PURGED = (
    "Success",
    "Expired",
    "DeliveryCountExceeded",
    "Rejected",
    "Purged",
)


@dataclass
class Command:
    """One message on its way.

    Attributes:
        sequence: its number; the order of delivery.
        device_id: whom it is for.
        body: the payload.
        system: standard properties by their keys in a topic (`$.mid`, `$.ct` ...).
        properties: the sender's own.
        ack: which ends the sender wants to hear of: none, positive, negative or full.
        expires: seconds since 1970.
        enqueued: seconds since 1970.
        deliveries: how often it has been sent.
        sent: whether the device has it and has not acknowledged yet.
    """

    sequence: int
    device_id: str
    body: bytes
    system: dict[str, str]
    properties: dict[str, str]
    ack: str
    expires: float
    enqueued: float
    deliveries: int = 0
    sent: bool = False


class Commands:
    """All cloud-to-device messages.

    Args:
        store: where they are kept.
        registry: the devices.

    Attributes:
        deliver: tries to send what waits for a device; set by the device side.
        feedback: what became of messages whose senders want to know.
    """

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._queues: dict[str, dict[int, Command]] = {}
        self._last = 0
        self.feedback = Notices(store, "feedback", TOGETHER)
        self.deliver: Callable[[Identity], None] = lambda _identity: None
        for sequence, device_id, document, body in store.read("SELECT * FROM commands"):
            kept = orjson.loads(document)
            command = Command(sequence, device_id, body, **kept)
            self._queues.setdefault(device_id, {})[sequence] = command
            self._last = max(self._last, sequence)
            self._count(device_id)

    def put(
        self,
        device_id: str,
        body: bytes,
        system: dict[str, str],
        properties: dict[str, str],
        expires: float | None = None,
    ) -> None:
        """Queue a message.

        Raises:
            HubFault: 404 without the device, 403 when its queue is full, 413 when it is too large.
        """
        identity = self._registry.get(device_id)
        own = dict(properties)
        ack = own.pop("iothub-ack", "none") or "none"
        if ack not in ("none", "positive", "negative", "full"):
            raise HubFault(400, "ArgumentInvalid", f"iothub-ack {ack!r} is unknown")
        total = len(body) + sum(len(k) + len(v) for k, v in [*system.items(), *own.items()])
        if total > BODY_LIMIT:
            raise HubFault(413, "MessageTooLarge", f"a message of over {BODY_LIMIT} bytes")
        queue = self._queues.setdefault(device_id, {})
        self._expire(device_id)
        if len(queue) >= QUEUE_LIMIT:
            raise HubFault(
                403,
                "DeviceMaximumQueueDepthExceeded",
                f"{QUEUE_LIMIT} messages wait for {device_id!r}, the most that can",
            )
        now = time.time()
        latest = now + (LIVES_SECONDS if expires is None else LONGEST_SECONDS)
        self._last += 1
        command = Command(
            self._last,
            device_id,
            body,
            system,
            own,
            ack,
            min(expires if expires is not None else latest, latest),
            now,
        )
        queue[command.sequence] = command
        self._save(command)
        self._count(device_id)
        self.deliver(identity)

    def waiting(self, device_id: str) -> list[Command]:
        """What can be sent to a device now, in order."""
        self._expire(device_id)
        return [command for command in self._queues.get(device_id, {}).values() if not command.sent]

    def sending(self, command: Command) -> bool:
        """Count a delivery; False when there were too many and the message is given up."""
        if command.deliveries >= DELIVERIES:
            self._end(command, GIVEN_UP)
            return False
        command.deliveries += 1
        command.sent = True
        self._save(command)
        return True

    def complete(self, device_id: str, sequence: int) -> None:
        """The device has acknowledged a message."""
        command = self._queues.get(device_id, {}).get(sequence)
        if command is not None:
            self._end(command, SUCCESS)

    def release(self, device_id: str) -> None:
        """The device has gone: what it did not acknowledge waits again."""
        for command in self._queues.get(device_id, {}).values():
            command.sent = False

    def purge(self, device_id: str) -> int:
        """Drop what waits for a device; returns how many messages that were."""
        self._registry.get(device_id)
        commands = list(self._queues.get(device_id, {}).values())
        for command in commands:
            self._end(command, PURGED)
        return len(commands)

    def forget(self, device_id: str) -> None:
        """The device is no longer registered."""
        if self._queues.pop(device_id, None):
            self._store.write("DELETE FROM commands WHERE device_id = ?", (device_id,))

    def _expire(self, device_id: str) -> None:
        now = time.time()
        for command in list(self._queues.get(device_id, {}).values()):
            if command.expires <= now:
                self._end(command, EXPIRED)

    def expire_all(self) -> None:
        """End what is too old, in all queues."""
        for device_id in list(self._queues):
            self._expire(device_id)

    def _save(self, command: Command) -> None:
        kept = asdict(command)
        for name in ("sequence", "device_id", "body", "sent"):
            del kept[name]
        row = (command.sequence, command.device_id, orjson.dumps(kept), command.body)
        self._store.write("INSERT OR REPLACE INTO commands VALUES (?,?,?,?)", row)

    def _end(self, command: Command, status: str) -> None:
        queue = self._queues.get(command.device_id, {})
        if queue.pop(command.sequence, None) is None:
            return
        self._store.write("DELETE FROM commands WHERE sequence = ?", (command.sequence,))
        self._count(command.device_id)
        wanted = {"positive": status == SUCCESS, "negative": status != SUCCESS, "full": True}
        if wanted.get(command.ack, False):
            self._report(command, status)

    def _count(self, device_id: str) -> None:
        identity = self._registry.find(device_id)
        if identity is not None:
            identity.commands = len(self._queues.get(device_id, {}))

    def _report(self, command: Command, status: str) -> None:
        identity = self._registry.find(command.device_id)
        self.feedback.put(
            {
                "originalMessageId": command.system.get("$.mid", ""),
                "enqueuedTimeUtc": timestamp(),
                "statusCode": status,
                "description": status,
                "deviceId": command.device_id,
                "deviceGenerationId": identity.generation_id if identity else "",
            }
        )
