"""Consumer groups of the event hub: views of the same events for different applications."""

import re

from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.store import Store

DEFAULT = "$Default"
LIMIT = 20  # what an event hub of the standard tier may have
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,48}[A-Za-z0-9])?")
_PREFIX = "consumer-group/"


class ConsumerGroups:
    """The groups there are; `$Default` always is.

    Args:
        store: where the others are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        kept = store.read("SELECT value FROM settings WHERE name LIKE 'consumer-group/%'")
        self._names = {DEFAULT.lower(): DEFAULT, **{name.lower(): name for (name,) in kept}}

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._names

    def names(self) -> list[str]:
        """Their names, in order."""
        return sorted(self._names.values(), key=str.lower)

    def add(self, name: str) -> None:
        """Make a group, if it is not there.

        Raises:
            HubFault: 400 for a name that is none; 403 when there are too many.
        """
        if name in self:
            return
        if not _NAME.fullmatch(name):
            raise HubFault(
                400,
                "ArgumentInvalid",
                f"consumer group {name[:60]!r} is not 1 to 50 letters, digits and . _ -",
            )
        if len(self._names) >= LIMIT:
            raise HubFault(403, "QuotaExceeded", f"there are {LIMIT} consumer groups already")
        self._names[name.lower()] = name
        row = (_PREFIX + name.lower(), name)
        self._store.write("INSERT OR REPLACE INTO settings VALUES (?,?)", row)

    def remove(self, name: str) -> None:
        """Remove a group; its receivers stay until they leave.

        Raises:
            HubFault: 404 when it is not there, 400 for `$Default`.
        """
        if name.lower() == DEFAULT.lower():
            raise HubFault(400, "ArgumentInvalid", f"{DEFAULT} cannot be removed")
        if name not in self:
            raise HubFault(404, "ConsumerGroupNotFound", f"no consumer group {name[:60]!r}")
        del self._names[name.lower()]
        self._store.write("DELETE FROM settings WHERE name = ?", (_PREFIX + name.lower(),))
