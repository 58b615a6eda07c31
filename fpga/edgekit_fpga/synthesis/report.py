"""What the tools' files say of a design: resources, clock, and the path that limits it."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from edgekit_fpga.synthesis.errors import SynthesisError
from edgekit_fpga.synthesis.plan import CELLS, TIMING, BuildPlan

# what one of Yosys' cells takes of a part's resources; a cell not named here takes one of its name
_TAKES = {
    "LUT4": {"TRELLIS_COMB": 1},
    "CCU2C": {"TRELLIS_COMB": 2},
    "TRELLIS_DPR16X4": {"TRELLIS_COMB": 6},
    "PFUMX": {},
    "L6MUX21": {},
    "PDPW16KD": {"DP16KD": 1},
    "SB_LUT4": {"ICESTORM_LC": 1},
    "SB_RAM40_4K": {"ICESTORM_RAM": 1},
    "SB_MAC16": {"ICESTORM_DSP": 1},
    "SB_SPRAM256KA": {"ICESTORM_SPRAM": 1},
}
_MADE = re.compile(r"_(?:LUT\d|CCU2C|PFUMX|L6MUX21|TRELLIS|SB|DP16KD|PDPW16KD|MULT)|\$CCU2")


@dataclass(frozen=True)
class Resource:
    """How many cells of a kind are used, and how many the part has."""

    kind: str
    used: int
    available: int

    @property
    def share(self) -> float:
        """Used of available."""
        return self.used / self.available


@dataclass(frozen=True)
class Segment:
    """A stretch of a path: from one signal of the RTL to the next.

    Attributes:
        signal: hierarchical name of the signal whose logic it leads into.
        logic: ns in cells.
        routing: ns in wires between them.
        cells: how many cells, a carry chain counting as one.
    """

    signal: str
    logic: float
    routing: float
    cells: int


@dataclass(frozen=True)
class Timing:
    """The clock that place and route reached, and the path that limits it.

    Attributes:
        clock: name of the clock's net.
        wanted_mhz: what the board's clock asks for.
        reached_mhz: what the slowest path allows.
        start: the signal where that path begins.
        end: the signal where it ends.
        path: its pieces, in order.
    """

    clock: str
    wanted_mhz: float
    reached_mhz: float
    start: str
    end: str
    path: tuple[Segment, ...]

    @property
    def met(self) -> bool:
        """The design is fast enough."""
        return self.reached_mhz >= self.wanted_mhz

    @property
    def nanoseconds(self) -> float:
        """How long the path takes."""
        return sum(segment.logic + segment.routing for segment in self.path)


@dataclass(frozen=True)
class Report:
    """What came out of a plan. `timing` is None where nothing was placed."""

    resources: tuple[Resource, ...]
    timing: Timing | None

    @property
    def fits(self) -> bool:
        """The part has enough of everything."""
        return all(resource.used <= resource.available for resource in self.resources)

    @property
    def ok(self) -> bool:
        """It fits, and is fast enough as far as that is known."""
        return self.fits and (self.timing is None or self.timing.met)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, its verdicts included."""
        timing = self.timing
        return {
            "fits": self.fits,
            "resources": {resource.kind: asdict(resource) for resource in self.resources},
            "timing": None if timing is None else asdict(timing) | {"met": timing.met},
        }


def read_report(plan: BuildPlan, folder: Path) -> Report:
    """Read what the tools left in the folder where `plan` was carried out.

    Raises:
        SynthesisError: a file is missing or not what the tools of today write.
    """
    placed = any(step.name == "place and route" for step in plan.steps)
    try:
        if not placed:
            return Report(_counted(plan, json.loads((folder / CELLS).read_text())), None)
        data = json.loads((folder / TIMING).read_text())
        used = tuple(
            Resource(kind, int(entry["used"]), int(entry["available"]))
            for kind, entry in sorted(data["utilization"].items())
            if entry["used"] and entry["available"]
        )
        return Report(used, _timing(data))
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise SynthesisError(f"cannot read the tools' reports in {folder}: {error!r}") from error


def _counted(plan: BuildPlan, data: Mapping[str, Any]) -> tuple[Resource, ...]:
    """The cells of Yosys' `stat`, as resources of the part."""
    used: Counter[str] = Counter()
    for cell, count in data["design"]["num_cells_by_type"].items():
        for kind, each in _TAKES.get(cell, {cell: 1}).items():
            used[kind] += each * int(count)
    return tuple(Resource(kind, used[kind], count) for kind, count in plan.resources)


def _timing(data: Mapping[str, Any]) -> Timing | None:
    """The slowest clock's path from register to register; None where there is none."""
    paths = {
        clock: entry["path"]
        for clock in data["fmax"]
        for entry in data["critical_paths"]
        # as in `posedge clk`
        if clock == entry["from"].split()[-1] == entry["to"].split()[-1]
    }
    if not paths:
        return None
    clocks = {clock: data["fmax"][clock] for clock in paths}
    clock = min(clocks, key=lambda name: clocks[name]["achieved"] / clocks[name]["constraint"])
    path = paths[clock]
    return Timing(
        clock=clock,
        wanted_mhz=float(clocks[clock]["constraint"]),
        reached_mhz=round(float(clocks[clock]["achieved"]), 2),
        start=_signal(path[0]["from"]["cell"]),
        end=_signal(path[-1]["to"]["cell"]),
        path=tuple(_segments(path)),
    )


def _segments(path: Sequence[Mapping[str, Any]]) -> Iterator[Segment]:
    """A path's pieces, put together by the signal they lead into."""
    for signal, group in groupby(path, lambda piece: _signal(piece["to"]["cell"])):
        pieces = list(group)
        routing = [float(piece["delay"]) for piece in pieces if piece["type"] == "routing"]
        logic = [float(piece["delay"]) for piece in pieces if piece["type"] != "routing"]
        # no time passes between the cells of a carry chain
        cells = max(1, sum(delay > 0 for delay in routing))
        yield Segment(signal, round(sum(logic), 2), round(sum(routing), 2), cells)


def _signal(cell: str) -> str:
    """The signal of the RTL a cell's name begins with; Yosys appends the cells it makes of it."""
    return _MADE.split(cell, maxsplit=1)[0]
