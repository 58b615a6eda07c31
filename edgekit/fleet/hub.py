"""What edgekit needs of an IoT Hub: one small port, and the data that goes through it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Configuration:
    """A deployment as the hub keeps it.

    Attributes:
        id: its name in the hub, lower case.
        content: `{"modulesContent": ...}`; cannot be changed after creation.
        condition: target condition.
        priority: higher wins.
        labels: free text by name.
        metrics: custom queries by name.
        results: device counts by metric: the system's (`targetedCount`, ...) and the custom ones;
            a metric the hub has not counted yet is missing.
        created: time of creation, ISO 8601 in UTC; empty before the hub has it.
        etag: the hub's version of it; empty before the hub has it.
    """

    id: str
    content: Mapping[str, Any]
    condition: str
    priority: int
    labels: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)
    results: Mapping[str, int] = field(default_factory=dict)
    created: str = ""
    etag: str = ""


class HubPort(Protocol):
    """The calls edgekit makes; every one raises `HubError` in one line."""

    @property
    def name(self) -> str:
        """The hub's host name."""
        ...

    def configurations(self) -> list[Configuration]:
        """All configurations of the hub."""
        ...

    def configuration(self, name: str) -> Configuration | None:
        """One configuration, None when there is none of that name."""
        ...

    def create(self, configuration: Configuration) -> Configuration:
        """Store a new configuration; refused when the id is taken."""
        ...

    def update(self, configuration: Configuration) -> Configuration:
        """Change condition, priority, labels and metrics; refused when `etag` is not the hub's."""
        ...

    def query(self, text: str) -> list[dict[str, Any]]:
        """All rows of a query over twins."""
        ...

    def patch_tags(self, device: str, tags: Mapping[str, Any]) -> None:
        """Merge `tags` into a device's; null removes a tag."""
        ...
