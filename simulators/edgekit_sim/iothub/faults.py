"""Faults on command: for one device, a share or all, for a time or until healed, repeatable.

| Fault | What happens |
|---|---|
| `partition` | connections are reset, and new ones too |
| `disconnect` | connections are reset, once; clients may come back at once |
| `refuse-tokens` | no device's token or certificate is good |
| `lose-acks` | a message is stored, its PUBACK lost together with the connection |
| `drop` | a message is lost together with the connection, as if it had never come |
| `delay` | acknowledgements and REST answers come `milliseconds` later |
| `throttle` | REST answers 429 with Retry-After |
| `clock-skew` | the hub's clock is `milliseconds` ahead when it looks at tokens |

The share of `partition`, `disconnect` and `refuse-tokens` is one of devices, the same ones as long
as the seed is the same; that of the others is one of messages and requests, drawn from the seed.
"""

import random
import time
import zlib
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
    _random: random.Random

    def strikes(self, device_id: str | None) -> bool:
        """Say whether it strikes this device, or this message or request of it, now."""
        if self.devices is not None and device_id not in self.devices:
            return False
        if self.share >= 1:
            return True
        if self.kind not in BY_DEVICE:
            return self._random.random() < self.share
        place = zlib.crc32(f"{self.seed}/{device_id}".encode()) / 2**32
        return device_id is not None and place < self.share


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
            for name in [document["kind"]] if document.get("kind") else list(self.active):
                self.active.pop(name, None)
            return None
        devices = document.get("devices")
        if devices is not None and not _is_list_of_text(devices):
            raise HubFault(400, "ArgumentInvalid", "devices must be a list of device ids")
        seconds, seed = _number(document, "seconds", float("inf")), document.get("seed") or 0
        fault = Fault(
            kind,
            None if devices is None else frozenset(devices),
            _number(document, "share", 1.0, most=1.0),
            seed,
            time.monotonic() + seconds,
            _number(document, "milliseconds", 0.0, least=-1e12) / 1000,
            random.Random(seed),  # noqa: S311  it has to be repeatable
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
