"""Faults on command: for one device, a share or all, for a time or until healed, repeatable.

| Fault | What happens |
|---|---|
| `partition` | connections are reset, and new ones too |
| `disconnect` | connections are reset, once; clients may come back at once |
| `refuse-tokens` | no device's token or certificate is good |
| `lose-acks` | a message or twin change is stored, the answer lost together with the connection |
| `drop` | a message is lost together with the connection, as if it had never come |
| `delay` | acknowledgements and answers come `milliseconds` later |
| `throttle` | REST answers 429 with Retry-After, twin requests are answered 429 |
| `clock-skew` | the hub's clock is `milliseconds` ahead when it looks at tokens |

The share of `partition`, `disconnect` and `refuse-tokens` is one of devices, the same ones as long
as the seed is the same. That of the others is one of messages and requests: whether the third one
of a device is struck hangs on the seed and on nothing that other devices do. A REST request counts
as one of the device in its address.
"""

import hashlib
import time
from dataclasses import dataclass, field
from typing import Any

from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.twins import Json

PARTITION, DISCONNECT, REFUSE_TOKENS = "partition", "disconnect", "refuse-tokens"
LOSE_ACKS, DROP, DELAY = "lose-acks", "drop", "delay"
THROTTLE, CLOCK_SKEW, HEAL = "throttle", "clock-skew", "heal"
KINDS = (
    PARTITION,
    DISCONNECT,
    REFUSE_TOKENS,
    LOSE_ACKS,
    DROP,
    DELAY,
    THROTTLE,
    CLOCK_SKEW,
    HEAL,
)
BY_DEVICE = (PARTITION, DISCONNECT, REFUSE_TOKENS)
TIMED = (DELAY, CLOCK_SKEW)
THROTTLED = "the request is throttled; retry after the time that Retry-After names"


@dataclass(frozen=True)
class Fault:
    """One fault in force.

    Attributes:
        kind: one of `KINDS`.
        devices: whom it is for; None for all.
        share: how many of them, or of their messages, from 0 to 1.
        seed: what the share is drawn with.
        until: monotonic time of its end.
        seconds: how long a delay is, or how far the clock is ahead.
    """

    kind: str
    devices: frozenset[str] | None
    share: float
    seed: int
    until: float
    seconds: float
    _counts: dict[str | None, int] = field(default_factory=dict, repr=False, compare=False)

    def strikes(self, device_id: str | None) -> bool:
        """Say whether it strikes this device, or this message or request of it, now."""
        if self.devices is not None and device_id not in self.devices:
            return False
        if self.share >= 1:
            return True
        if self.kind in BY_DEVICE:
            return device_id is not None and self._place(device_id) < self.share
        count = self._counts[device_id] = self._counts.get(device_id, 0) + 1
        return self._place(f"{device_id}/{count}") < self.share

    def _place(self, name: str) -> float:
        """Where a device, or one of its messages, stands between 0 and 1."""
        digest = hashlib.blake2b(f"{self.seed}/{name}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) / 2**64

    def document(self) -> Json:
        """The fault as it was ordered, with the time it still has."""
        left = self.until - time.monotonic()
        found: Json = {"fault": self.kind, "share": self.share, "seed": self.seed}
        found["devices"] = None if self.devices is None else sorted(self.devices)
        found["seconds"] = None if left == float("inf") else max(0.0, left)
        found["milliseconds"] = self.seconds * 1000 if self.kind in TIMED else None
        return found


@dataclass
class Faults:
    """The faults in force, by kind.

    Attributes:
        active: empty while the hub is well; the hot path looks at it first.
    """

    active: dict[str, Fault] = field(default_factory=dict)

    def order(self, document: Json) -> Fault | None:
        """Begin a fault, or end all.

        Args:
            document: `{"fault": KIND}` with `devices` (a list), `share`, `seed`, `seconds`,
                `milliseconds`; or `{"fault": "heal"}`, of one `kind` or of all. Without `seconds` a
                fault lasts until it is healed.

        Returns:
            The fault, if it is one that resets connections now.

        Raises:
            HubFault: 400, when it is none of these.
        """
        kind = document.get("fault")
        if kind not in KINDS:
            raise HubFault(400, "ArgumentInvalid", f"fault must be one of {', '.join(KINDS)}")
        if kind == HEAL:
            healed = document.get("kind")
            if healed is not None and healed not in KINDS:
                raise HubFault(400, "ArgumentInvalid", f"kind must be one of {', '.join(KINDS)}")
            for name in [healed] if healed is not None else list(self.active):
                self.active.pop(name, None)
            return None
        devices = document.get("devices")
        if devices is not None and not _is_list_of_text(devices):
            raise HubFault(400, "ArgumentInvalid", "devices must be a list of device ids")
        seconds = _number(document, "seconds", float("inf"))
        seed = _number(document, "seed", 0, least=-1e12)
        fault = Fault(
            kind,
            None if devices is None else frozenset(devices),
            _number(document, "share", 1.0, most=1.0),
            int(seed),
            time.monotonic() + seconds,
            _number(document, "milliseconds", 0.0, least=-1e12) / 1000,
        )
        if kind != DISCONNECT:
            self.active[kind] = fault
        return fault if kind in (PARTITION, DISCONNECT) else None

    def strikes(self, kind: str, device_id: str | None = None) -> Fault | None:
        """The fault of a kind, if it strikes this device, message or request now."""
        fault = self.active.get(kind)
        if fault is None:
            return None
        if time.monotonic() >= fault.until:
            del self.active[kind]
            return None
        return fault if fault.strikes(device_id) else None

    def documents(self) -> list[Json]:
        """The faults in force, as they were ordered."""
        return [one.document() for one in self.active.values() if one.until > time.monotonic()]

    def clock(self) -> float:
        """Seconds since 1970, as the hub sees it."""
        skew = self.strikes(CLOCK_SKEW)
        return time.time() + (skew.seconds if skew else 0.0)


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _number(
    document: Json, name: str, default: float, least: float = 0.0, most: float = 1e12
) -> float:
    value = document.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise HubFault(400, "ArgumentInvalid", f"{name} must be a number from {least} to {most}")
    return float(value)
