"""Properties of messages as they stand in MQTT topics: percent-encoded pairs joined by `&`."""

from urllib.parse import quote, unquote

from edgekit_sim.iothub.twins import Json


def encode_properties(properties: Json) -> str:
    """Properties as they stand in a topic."""
    return "&".join(f"{quote(k, safe='')}={quote(str(v), safe='')}" for k, v in properties.items())


def split_properties(text: str) -> list[tuple[str, str]]:
    """The pairs of a percent-encoded `a=b&c=d`; a key without `=` has the value ""."""
    pairs = (part.partition("=") for part in text.split("&") if part)
    return [(unquote(key), unquote(value)) for key, _, value in pairs]
