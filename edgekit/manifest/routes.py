"""The grammar of an edgeHub route: FROM source [WHERE condition] INTO sink."""

import re
from dataclasses import dataclass

from edgekit.errors import ManifestError

_ROUTE = re.compile(
    r"\s*FROM\s+(?P<source>/\S*)(?:\s+WHERE\s+(?P<condition>.+))?\s+INTO\s+(?P<sink>.+?)\s*\Z",
    re.IGNORECASE | re.DOTALL,
)
_SOURCE = re.compile(
    r"/(?:\*|twinChangeNotifications|messages/(?:\*|modules/(?:\*"
    r"|(?P<module>[^/\s*]+)/(?:\*|outputs/(?:\*|[^/\s*]+))"
    r"|\*/outputs/(?:\*|[^/\s*]+))))\Z"
)
_BROKERED = re.compile(
    r"""BrokeredEndpoint\(\s*(["'])/modules/(?P<module>[^/"']+)/inputs/[^/"']+\1\s*\)\Z"""
)


@dataclass(frozen=True)
class ParsedRoute:
    """A route taken apart.

    Attributes:
        source: where messages come from, as written.
        condition: the text behind WHERE, or "".
        sink: where they go, as written.
        source_module: the one module the source names, or None.
        sink_module: the module of a BrokeredEndpoint, or None for $upstream.
    """

    source: str
    condition: str
    sink: str
    source_module: str | None
    sink_module: str | None


def parse_route(text: str) -> ParsedRoute:
    """Take a route apart.

    Of the condition only quotes and brackets are looked at: its language has some fifty functions
    and is left to the device's hub.

    Raises:
        ManifestError: the text does not follow the grammar; the message says which part.
    """
    match = _ROUTE.match(text)
    if match is None:
        raise ManifestError(
            f"route {text!r} does not read FROM /messages/... [WHERE ...] INTO ...",
            "for example: FROM /messages/modules/scorer/outputs/* INTO $upstream",
        )
    source, condition, sink = match["source"], match["condition"] or "", match["sink"]
    from_module = _SOURCE.match(source)
    if from_module is None:
        raise ManifestError(
            f"route {text!r}: {source} is no source of messages",
            "use /messages/*, /messages/modules/NAME/* or /messages/modules/NAME/outputs/NAME",
        )
    into_module = _BROKERED.match(sink)
    if into_module is None and sink != "$upstream":
        raise ManifestError(
            f"route {text!r}: {sink} is no sink",
            'use $upstream or BrokeredEndpoint("/modules/NAME/inputs/NAME")',
        )
    if not _balanced(condition):
        raise ManifestError(f"route {text!r}: quotes or brackets in the condition do not match")
    return ParsedRoute(
        source=source,
        condition=condition,
        sink=sink,
        source_module=from_module["module"],
        sink_module=into_module["module"] if into_module else None,
    )


def _balanced(condition: str) -> bool:
    closing = {"(": ")", "[": "]", "{": "}"}
    expected: list[str] = []
    quote = ""
    for character in condition:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in closing:
            expected.append(closing[character])
        elif character in closing.values() and (not expected or expected.pop() != character):
            return False
    return not quote and not expected
