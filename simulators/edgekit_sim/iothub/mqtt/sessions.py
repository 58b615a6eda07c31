"""What the hub remembers of a client between its connections."""

from typing import Protocol

from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.mqtt import packets
from edgekit_sim.iothub.store import Store

# features a client can subscribe to, and the filter of each
COMMANDS, INPUTS, TWIN, DESIRED, METHODS = "commands", "inputs", "twin", "desired", "methods"
IN_FLIGHT_LIMIT = 100  # QoS 1 messages waiting for a client's PUBACK


class Wire(Protocol):
    """The connection a session speaks over while there is one."""

    def send(self, packet: bytes) -> None:
        """Write a packet."""


class Session:
    """A client's subscriptions and the QoS 1 messages it has not acknowledged.

    Attributes:
        client_id: `device` or `device/module`.
        features: what it subscribed to, with the QoS granted.
        wire: its connection, or None.
    """

    __slots__ = ("_last_id", "client_id", "features", "in_flight", "persistent", "wire")

    def __init__(self, client_id: str, features: dict[str, int] | None = None) -> None:
        self.client_id = client_id
        self.features: dict[str, int] = features or {}
        self.in_flight: dict[int, tuple[str, bytes, int]] = {}
        self.persistent = True
        self.wire: Wire | None = None
        self._last_id = 0

    def deliver(self, feature: str, topic: str, payload: bytes, qos: int, tag: int = 0) -> bool:
        """Send a message if the client is there and subscribed; says whether it was sent.

        `tag` is what the hub calls it when the client has acknowledged it.
        """
        granted = self.features.get(feature)
        if granted is None or self.wire is None:
            return False
        if min(granted, qos) == 0:
            self.wire.send(packets.publish(topic, payload))
            return True
        if len(self.in_flight) >= IN_FLIGHT_LIMIT:
            return False
        packet_id = self._new_id()
        self.in_flight[packet_id] = (topic, payload, tag)
        self.wire.send(packets.publish(topic, payload, packet_id))
        return True

    def resend(self) -> None:
        """Send again, marked as duplicates, what an earlier connection did not acknowledge."""
        if self.wire is not None:
            for packet_id, (topic, payload, _) in self.in_flight.items():
                self.wire.send(packets.publish(topic, payload, packet_id, duplicate=True))

    def drop_tagged(self) -> None:
        """Forget what was sent with a tag: whoever gave it will send it anew."""
        for packet_id, (_, _, tag) in list(self.in_flight.items()):
            if tag:
                del self.in_flight[packet_id]

    def _new_id(self) -> int:
        while True:
            self._last_id = self._last_id % 0xFFFF + 1
            if self._last_id not in self.in_flight:
                return self._last_id


class Sessions:
    """All sessions; subscriptions of persistent ones outlive the hub's process.

    Args:
        store: where they are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sessions: dict[str, Session] = {}
        for client_id, features in store.read("SELECT * FROM sessions"):
            pairs = (item.split(":") for item in features.split())
            self._sessions[client_id] = Session(client_id, {name: int(q) for name, q in pairs})

    def find(self, identity: Identity) -> Session | None:
        """The client's session, if it has one."""
        return self._sessions.get(identity.client_id)

    def open(self, client_id: str, clean: bool) -> tuple[Session, bool]:
        """The session a new connection goes on with, and whether it was there before."""
        present = self._sessions.get(client_id)
        if present is not None and not clean:
            return present, True
        if present is not None:
            self.forget(client_id)
        session = self._sessions[client_id] = Session(client_id)
        session.persistent = not clean
        return session, False

    def save(self, session: Session) -> None:
        """Queue a session's subscriptions for the disk."""
        if session.persistent:
            text = " ".join(f"{name}:{qos}" for name, qos in session.features.items())
            self._store.write(
                "INSERT OR REPLACE INTO sessions VALUES (?,?)", (session.client_id, text)
            )

    def forget(self, client_id: str) -> None:
        """End a session: it was a clean one, or its identity is gone."""
        if self._sessions.pop(client_id, None) is not None:
            self._store.write("DELETE FROM sessions WHERE client_id = ?", (client_id,))


def feature_of(topic_filter: str, device_id: str, module_id: str) -> str | None:
    """The feature a topic filter stands for; None for topics this client has no business with."""
    fixed = {
        "$iothub/twin/res/#": TWIN,
        "$iothub/twin/PATCH/properties/desired/#": DESIRED,
        "$iothub/methods/POST/#": METHODS,
    }
    if topic_filter in fixed:
        return fixed[topic_filter]
    if module_id:
        own = f"devices/{device_id}/modules/{module_id}/"
        return INPUTS if topic_filter in (own + "inputs/#", own + "#") else None
    return COMMANDS if topic_filter == f"devices/{device_id}/messages/devicebound/#" else None
