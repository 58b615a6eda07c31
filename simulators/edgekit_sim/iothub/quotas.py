"""The rates of the real service's tiers, as an option: what a free or a standard hub would refuse.

Figures are those of "IoT Hub quotas and throttling" in the service's documentation, for one unit.
A bucket for each kind of operation is refilled at its rate and holds a minute's worth. What devices
send faster than that is not refused but read later, as the service shapes traffic; calls to the
REST API are answered 429 and new connections 3 (unavailable). Messages are counted by the UTC day.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edgekit_sim.iothub.errors import HubFault

TIERS = ("none", "free", "s1", "s2", "s3")
_REGISTRY, _QUERY, _READ, _UPDATE = "registry", "query", "twin read", "twin update"
_METHOD, _CONFIGURATION = "method", "configuration"
_COMMAND = "cloud-to-device send"
# operations a minute and unit; methods are counted in calls of up to 4 KB
_RATES: dict[str, dict[str, float]] = {
    tier: {
        _REGISTRY: registry,
        _QUERY: queries,
        _READ: reads,
        _UPDATE: updates,
        _METHOD: methods,
        _CONFIGURATION: 20,
        _COMMAND: registry,
    }
    for tier, registry, queries, reads, updates, methods in (
        ("free", 100, 20, 6_000, 3_000, 2_400),
        ("s1", 100, 20, 6_000, 3_000, 2_400),
        ("s2", 100, 20, 6_000, 3_000, 7_200),
        ("s3", 5_000, 1_000, 30_000, 15_000, 360_000),
    )
}
# new connections, and messages of devices, a second and unit
_FLOWS = {"free": 100, "s1": 100, "s2": 120, "s3": 6_000}
# messages of devices a day and unit, each counted in pieces of so many bytes
_MESSAGES = {"free": (8_000, 512), "s1": (400_000, 4096), "s2": (6_000_000, 4096)}
_MESSAGES["s3"] = (300_000_000, 4096)
_DAY = 86_400
# "METHOD /path" of a request, and what it counts as
_KINDS = (
    (re.compile(r"POST /devices/query"), _QUERY),
    (re.compile(r"POST /twins/.*/methods"), _METHOD),
    (re.compile(r"GET /twins/"), _READ),
    (re.compile(r"[A-Z]+ /twins/"), _UPDATE),
    (re.compile(r"[A-Z]+ (/configurations|.*/applyConfigurationContent)"), _CONFIGURATION),
    (re.compile(r"[A-Z]+ /devices"), _REGISTRY),
)


@dataclass
class Bucket:
    """What may be spent now; refilled as time goes on.

    Attributes:
        size: the most it holds.
        rate: what comes in a second.
    """

    size: float
    rate: float
    level: float = field(init=False)
    updated: float = field(init=False)

    def __post_init__(self) -> None:
        self.level, self.updated = self.size, time.monotonic()

    def _refill(self) -> None:
        now = time.monotonic()
        self.level = min(self.size, self.level + (now - self.updated) * self.rate)
        self.updated = now

    def spend(self, amount: float = 1.0) -> bool:
        """Take an amount out; False when there is not so much."""
        self._refill()
        if self.level < amount:
            return False
        self.level -= amount
        return True

    def owe(self, amount: float = 1.0) -> float:
        """Take an amount out in any case; the seconds until it would have been there."""
        self._refill()
        self.level -= amount
        return max(0.0, -self.level / self.rate)


class Quotas:
    """The rates of one tier. What has been spent is forgotten when the hub stops.

    Args:
        tier: one of `TIERS`; `none` refuses nothing.
        hub: the hub's name, for what is said when messages are used up.
        clock: seconds since 1970.
    """

    def __init__(
        self, tier: str = "none", hub: str = "hub", clock: Callable[[], float] = time.time
    ) -> None:
        self.tier = tier
        self._hub, self._clock = hub, clock
        rates = _RATES.get(tier, {})
        self._buckets = {kind: Bucket(rate, rate / 60) for kind, rate in rates.items()}
        flow = _FLOWS.get(tier)
        self._sends = Bucket(flow * 60, flow) if flow else None
        self._connections = Bucket(flow, flow) if flow else None
        self._daily, self._piece = _MESSAGES.get(tier, (0, 1))
        self._day, self._count = 0, 0

    def spend(self, method: str, path: str) -> None:
        """Count a REST request.

        Raises:
            HubFault: 429, when there have been too many of its kind.
        """
        if not self._buckets:
            return
        for pattern, kind in _KINDS:
            if pattern.match(f"{method} {path}"):
                self._spend(kind)
                return

    def _spend(self, kind: str) -> None:
        bucket = self._buckets.get(kind)
        if bucket is not None and not bucket.spend():
            raise HubFault(
                429, "ThrottlingException", f"more {kind} operations than {self.tier} has"
            )

    def connect(self) -> bool:
        """Count a new connection; False when there have been too many in the last second."""
        return self._connections is None or self._connections.spend()

    def send(self) -> float:
        """Count a device's send; the seconds until its next one is to be read."""
        return self._sends.owe() if self._sends is not None else 0.0

    def count_command(self, size: int) -> None:
        """Count a message of `size` bytes to a device.

        Raises:
            HubFault: 429 or 403, when there have been too many in a minute or in the day.
        """
        self._spend(_COMMAND)
        self.count_message(size)

    def count_message(self, size: int) -> None:
        """Count a message of `size` bytes, in pieces of the size that the tier counts.

        Raises:
            HubFault: 403, when the day's messages are used up.
        """
        if not self._daily:
            return
        day = int(self._clock() // _DAY)
        if day != self._day:
            self._day, self._count = day, 0
        if self._count >= self._daily:
            raise HubFault(
                403,
                "IotHubQuotaExceeded",
                f"Total number of messages on IotHub '{self._hub}' exceeded the allocated quota."
                f" Max allowed message count : '{self._daily}', current message count :"
                f" '{self._count}'. Send and Receive operations are blocked for this hub until the"
                " next UTC day. Consider increasing the units for this hub to increase the quota.",
            )
        self._count += max(1, -(-size // self._piece))
