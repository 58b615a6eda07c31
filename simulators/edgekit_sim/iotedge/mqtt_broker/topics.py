"""Topic names and filters (section 4.7 of MQTT 3.1.1)."""


def is_name(topic: str) -> bool:
    """Whether a message can be published to `topic`."""
    return topic != "" and not any(sign in topic for sign in "+#\0")


def is_filter(text: str) -> bool:
    """Whether `text` can be subscribed to: `+` and `#` fill a level, `#` the last one."""
    levels = text.split("/")
    return (
        bool(text)
        and "\0" not in text
        and "#" not in "".join(levels[:-1])
        and all(level in ("+", "#") or not {"+", "#"} & set(level) for level in levels)
    )


def matches(text: str, topic: str) -> bool:
    """Whether the filter `text` takes a message on `topic`."""
    if topic.startswith("$") and text[0] in "+#":
        return False
    wanted, levels = text.split("/"), topic.split("/")
    for position, level in enumerate(wanted):
        if level == "#":
            return True
        if position >= len(levels) or level not in ("+", levels[position]):
            return False
    return len(wanted) == len(levels)
