"""Faults on command: a partitioned network, acknowledgements that never arrive."""

import random
import time
from dataclasses import dataclass, field
from typing import Any

from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.twins import Json

KINDS = ("partition", "lose-acks", "heal")


@dataclass
class Faults:
    """The faults in force, looked at on the hot path; all empty when the hub is well.

    Attributes:
        partition_until: monotonic time until which nobody reaches the hub's device side.
        devices_until: the same for single devices.
        lose_acks: share of the QoS 1 messages that are stored, but whose PUBACK is lost with
            the connection.
    """

    partition_until: float = 0.0
    devices_until: dict[str, float] = field(default_factory=dict)
    lose_acks: float = 0.0
    lose_acks_until: float = 0.0
    _random: random.Random = field(default_factory=random.Random)

    def order(self, document: Json) -> set[str] | None:
        """Begin a fault, or end all.

        Args:
            document: `{"fault": "partition", "seconds": 5, "devices": ["d1"]}`,
                `{"fault": "lose-acks", "share": 0.1, "seed": 7, "seconds": 60}` or
                `{"fault": "heal"}`. Without `seconds` a fault lasts until `heal`, without
                `devices` it is for all.

        Returns:
            The devices whose connections are to be reset; None for all of them.

        Raises:
            HubFault: 400, when it is none of these.
        """
        kind = document.get("fault")
        if kind == "heal":
            self.partition_until = self.lose_acks = self.lose_acks_until = 0.0
            self.devices_until.clear()
            return set()
        until = _until(document.get("seconds"))
        if kind == "partition":
            return self._partition(document.get("devices"), until)
        if kind == "lose-acks":
            share = document.get("share", 1.0)
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise HubFault(400, "ArgumentInvalid", "share must be a number from 0 to 1")
            self.lose_acks, self.lose_acks_until = float(share), until
            self._random = random.Random(document.get("seed", 0))  # noqa: S311  a repeatable fault
            return set()
        raise HubFault(400, "ArgumentInvalid", f"fault must be one of {', '.join(KINDS)}")

    def _partition(self, devices: Any, until: float) -> set[str] | None:
        if devices is None:
            self.partition_until = until
            return None
        if not isinstance(devices, list) or not all(isinstance(d, str) for d in devices):
            raise HubFault(400, "ArgumentInvalid", "devices must be a list of device ids")
        self.devices_until.update(dict.fromkeys(devices, until))
        return set(devices)

    def unreachable(self, device_id: str | None = None) -> bool:
        """Say whether the device (None: anybody at all) is cut off now."""
        now = time.monotonic()
        if now < self.partition_until:
            return True
        return device_id is not None and now < self.devices_until.get(device_id, 0.0)

    def loses_ack(self) -> bool:
        """Draw whether the next acknowledgement is lost."""
        if not self.lose_acks or time.monotonic() >= self.lose_acks_until:
            return False
        return self._random.random() < self.lose_acks


def _until(seconds: Any) -> float:
    if seconds is None:
        return float("inf")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
        raise HubFault(400, "ArgumentInvalid", "seconds must be a number, not negative")
    return time.monotonic() + seconds
