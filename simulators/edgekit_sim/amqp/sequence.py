"""Serial numbers of 32 bits, which begin again at 0 after the last (RFC 1982)."""

MASK = 0xFFFFFFFF


def add(number: int, steps: int) -> int:
    """The number `steps` after `number`."""
    return (number + steps) & MASK


def distance(start: int, end: int) -> int:
    """How far it is from `start` to `end`: from -2^31 to 2^31 - 1."""
    forward = (end - start) & MASK
    return forward if forward < 0x80000000 else forward - 0x100000000
