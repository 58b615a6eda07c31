"""The rates of the real service's tiers, as an option: what a free or a standard hub would refuse.

Figures are those of "Understand throttling and quotas" in the service's documentation, for one
unit: a bucket for each kind of operation is refilled at its rate and holds a minute's worth.
"""

import re
import time
from dataclasses import dataclass, field

from edgekit_sim.iothub.errors import HubFault

TIERS = ("none", "free", "s1", "s2", "s3")
_REGISTRY, _QUERY, _READ, _UPDATE = "registry", "query", "twin read", "twin update"
_METHOD, _CONFIGURATION = "method", "configuration"
# operations a minute and unit; methods are counted in calls of up to 4 KB
_RATES: dict[str, dict[str, float]] = {
    tier: {
        _REGISTRY: registry,
        _QUERY: queries,
        _READ: reads,
        _UPDATE: updates,
        _METHOD: methods,
        _CONFIGURATION: 20,
    }
    for tier, registry, queries, reads, updates, methods in (
        ("free", 100, 20, 6_000, 3_000, 2_400),
        ("s1", 100, 20, 6_000, 3_000, 2_400),
        ("s2", 100, 20, 6_000, 3_000, 7_200),
        ("s3", 5_000, 1_000, 30_000, 15_000, 360_000),
    )
}
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

    def spend(self, amount: float = 1.0) -> bool:
        """Take an amount out; False when there is not so much."""
        now = time.monotonic()
        self.level = min(self.size, self.level + (now - self.updated) * self.rate)
        self.updated = now
        if self.level < amount:
            return False
        self.level -= amount
        return True


class Quotas:
    """The rates of one tier.

    Args:
        tier: one of `TIERS`; `none` refuses nothing.
    """

    def __init__(self, tier: str = "none") -> None:
        self.tier = tier
        rates = _RATES.get(tier, {})
        self._buckets = {kind: Bucket(rate, rate / 60) for kind, rate in rates.items()}
        daily = _MESSAGES.get(tier)
        self._piece = daily[1] if daily else 1
        self._messages = Bucket(daily[0], daily[0] / _DAY) if daily else None

    def spend(self, method: str, path: str) -> None:
        """Count a REST request.

        Raises:
            HubFault: 429, when there have been too many of its kind.
        """
        if not self._buckets:
            return
        for pattern, kind in _KINDS:
            if pattern.match(f"{method} {path}"):
                if not self._buckets[kind].spend():
                    raise HubFault(
                        429, "ThrottlingException", f"more {kind} operations than {self.tier} has"
                    )
                return

    def takes_message(self, size: int) -> bool:
        """Count a device's message of `size` bytes; False when the day's are spent."""
        if self._messages is None:
            return True
        return self._messages.spend(max(1, -(-size // self._piece)))
