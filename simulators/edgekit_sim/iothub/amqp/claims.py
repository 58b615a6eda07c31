"""What a client has proved it may do, by tokens put to `$cbs` or by a key in SASL PLAIN."""

import time
from dataclasses import dataclass

from edgekit_sim.amqp.errors import AmqpError


@dataclass(frozen=True)
class Claim:
    """A right on a part of the hub.

    Attributes:
        path: what it is for, lower case, without scheme and host; "" for everything.
        rights: what it allows.
        until: when it ends, seconds since 1970 (UTC).
    """

    path: str
    rights: frozenset[str]
    until: float

    def covers(self, path: str) -> bool:
        """Say whether it is for a path."""
        wanted = path.lower().strip("/")
        return not self.path or wanted == self.path or wanted.startswith(f"{self.path}/")


class Claims:
    """The claims of one connection; a newer one takes the place of one for the same path."""

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}

    def add(self, claim: Claim) -> None:
        """Take a claim."""
        self._claims[claim.path] = claim

    def until(self, path: str, right: str) -> float:
        """When the right on a path ends; 0 when there is none."""
        fitting = (c for c in self._claims.values() if c.covers(path) and right in c.rights)
        return max((claim.until for claim in fitting), default=0.0)

    def require(self, path: str, right: str) -> None:
        """Let an operation pass.

        Raises:
            AmqpError: the client has not proved that it may.
        """
        if self.until(path, right) <= time.time():
            raise AmqpError(
                "amqp:unauthorized-access",
                f"Unauthorized access. '{right}' claim(s) are required to perform this operation."
                f" Resource: '{path[:200]}'.",
            )
