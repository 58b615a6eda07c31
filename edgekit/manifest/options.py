"""createOptions on the wire: one JSON string in pieces of at most 512 characters.

The hub once capped a twin's string at 512 characters, and the IoT Edge runtime still reads
`createOptions`, `createOptions01` .. `createOptions99` and joins them, stopping at the first gap.
"""

import json
from collections.abc import Mapping
from typing import Any

from edgekit.errors import ManifestError

CHUNK = 512
MOST_CHUNKS = 100


def chunk_name(position: int) -> str:
    """The property that holds the piece at `position`: createOptions, createOptions01, ..."""
    return "createOptions" if position == 0 else f"createOptions{position:02d}"


def split_options(options: Mapping[str, Any]) -> dict[str, str]:
    """The properties that carry `options`, in order; `{}` still takes one.

    Raises:
        ManifestError: the text is longer than 100 pieces of 512 characters.
    """
    text = json.dumps(options, separators=(",", ":"), sort_keys=True, ensure_ascii=True)
    pieces = [text[start : start + CHUNK] for start in range(0, len(text), CHUNK)]
    if len(pieces) > MOST_CHUNKS:
        raise ManifestError(
            f"createOptions take {len(text)} characters; the runtime reads at most "
            f"{CHUNK * MOST_CHUNKS}",
            "move the data into a file that the module mounts",
        )
    return {chunk_name(position): piece for position, piece in enumerate(pieces)}


def join_text(settings: Mapping[str, Any]) -> str:
    """The pieces in `settings` up to the first gap, joined as the runtime joins them."""
    text = ""
    for position in range(MOST_CHUNKS):
        piece = settings.get(chunk_name(position))
        if not isinstance(piece, str):
            break
        text += piece
    return text


def join_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The createOptions object in a module's `settings`; `{}` where there is none.

    Raises:
        ManifestError: the joined text is no JSON object.
    """
    text = join_text(settings)
    if not text.strip():
        return {}
    try:
        options = json.loads(text)
    except ValueError as error:
        raise ManifestError(f"createOptions are not JSON ({error})") from error
    if not isinstance(options, dict):
        raise ManifestError(f"createOptions are a JSON {type(options).__name__}, not an object")
    return options


def lost_chunks(settings: Mapping[str, Any]) -> list[str]:
    """The pieces behind a gap, which the runtime would silently leave out."""
    gap = False
    lost = []
    for position in range(MOST_CHUNKS):
        name = chunk_name(position)
        if name not in settings:
            gap = True
        elif gap:
            lost.append(name)
    return lost
