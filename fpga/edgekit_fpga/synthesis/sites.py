"""Where an ECP5's multipliers and memories are, by nextpnr's names of their places.

Both lie in rows of blocks: a block of nine columns has four of one kind. The figures are those of
nextpnr's own device tables.
"""

import json
from dataclasses import dataclass

# nextpnr's name of a place in a block, and its columns after the block's first
MULTIPLIERS = {"MULT18_0": 0, "MULT18_1": 1, "MULT18_4": 4, "MULT18_5": 5}
MEMORIES = {"EBR0": 0, "EBR1": 2, "EBR2": 4, "EBR3": 6}


@dataclass(frozen=True)
class Die:
    """The first columns of its blocks, and the rows of either kind."""

    blocks: tuple[int, ...]
    multiplier_rows: tuple[int, ...]
    memory_rows: tuple[int, ...]

    def sites(self) -> dict[str, list[tuple[int, int, str]]]:
        """Kind of cell -> column, row and name of each of its places."""
        kinds = {
            "MULT18X18D": (self.multiplier_rows, MULTIPLIERS),
            "DP16KD": (self.memory_rows, MEMORIES),
        }
        return {
            kind: [
                (block + column, row, f"X{block + column}/Y{row}/{name}")
                for row in rows
                for block in self.blocks
                for name, column in places.items()
            ]
            for kind, (rows, places) in kinds.items()
        }


DIES = {
    "25k": Die((4, 13, 22, 33, 42, 51, 60), (13,), (25, 37)),
    "85k": Die(
        (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114), (10, 34, 58), (22, 46, 70, 82)
    ),
}


def sites_file(device: str) -> str:
    """What `floorplan` reads of a die, by nextpnr's name of it."""
    return json.dumps(DIES[device].sites())
