"""Where in a partition a receiver begins: the filter of its link."""

import re
from typing import Any

from edgekit_sim.amqp.errors import AmqpError
from edgekit_sim.amqp.links import OutgoingLink
from edgekit_sim.amqp.types import Described
from edgekit_sim.iothub.events import EventLog

SELECTOR = "apache.org:selector-filter:string"
LATEST = "@latest"
_POSITION = re.compile(
    r"\s*amqp\.annotation\.x-opt-(offset|sequence-number|enqueued-time)\s*(>=?)\s*'([^']*)'\s*"
)
_NUMBER = re.compile(r"-?\d{1,18}")


def begin(link: OutgoingLink, events: EventLog, partition: int) -> int:
    """The first offset that a receiver wants; without a filter, the first there is.

    Args:
        link: the receiver's link, whose source has the filter, for example
            `amqp.annotation.x-opt-offset > '17'`.
        events: the events.
        partition: of which partition.

    Raises:
        AmqpError: the filter is none that an event hub knows.
    """
    first, last, _ = events.extent(partition)
    filters = (link.source.filter if link.source is not None else None) or {}
    text = _text(filters)
    if text is None:
        return first
    match = _POSITION.fullmatch(text)
    if match is None:
        raise _unknown(text)
    name, operator, position = match.groups()
    inclusive = operator == ">="
    if position == LATEST and name != "enqueued-time":
        return last if inclusive and last >= first else last + 1
    if not _NUMBER.fullmatch(position):
        raise _unknown(text)
    if name == "enqueued-time":
        return events.offset_after(partition, int(position) - inclusive)
    return max(first, int(position) + (not inclusive))


def _text(filters: dict[Any, Any]) -> str | None:
    """The selector among the filters; a service ignores those it does not know."""
    for name, value in filters.items():
        if str(name) == SELECTOR:
            text = value.value if isinstance(value, Described) else value
            return text if isinstance(text, str) else str(text)
    return None


def _unknown(text: str) -> AmqpError:
    return AmqpError("amqp:invalid-field", f"The filter {text[:100]!r} is not supported.")
