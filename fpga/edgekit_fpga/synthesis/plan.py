"""What synthesis will do, as a value: files, commands, tool versions, and a digest of them all.

A plan is made without running anything; `edgekit_fpga.synthesis.carrying_out` does what it says.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from edgekit_fpga import rtl
from edgekit_fpga.boards import COMPACT, SERIAL, Board, Part, load_part
from edgekit_fpga.synthesis.errors import SynthesisError
from edgekit_fpga.synthesis.sites import sites_file
from edgekit_fpga.synthesis.tools import FLOORPLAN, FLOWS, YOSYS, Flow, Tool

SCRIPT = "synthesize.ys"
NETLIST = "netlist.json"
FLOORPLANNED = "floorplan.json"
FLOORPLAN_PROGRAM = "floorplan.py"
SITES = "sites.json"
CELLS = "cells.json"
TIMING = "timing.json"
WHOLE = "board"  # the module with the pins, one for each board
# what a board's module puts behind its link, for each core
BEHIND_LINK = {"npu": "npu_serial", COMPACT: "npu_compact_serial"}


@dataclass(frozen=True)
class Step:
    """One program's run: `arguments` name files of the plan's folder."""

    name: str
    tool: Tool
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class BuildPlan:
    """All that a run of the tools depends on.

    Attributes:
        board: the board's name.
        top: the module that is synthesized.
        clock_mhz: the clock it has to reach.
        whole: it has the board's pins; else it is one module, placed without them.
        resources: kind of cell -> how many the part has.
        files: name -> text of every file the tools read.
        steps: the programs, in order.
        versions: distribution -> version of every tool.
    """

    board: str
    top: str
    clock_mhz: int
    whole: bool
    resources: tuple[tuple[str, int], ...]
    files: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]
    versions: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        """`sha256:` and the digest of the plan: equal plans make equal bitstreams."""
        text = json.dumps(asdict(self), sort_keys=True)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain data, its files by their digests."""
        files = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in self.files}
        steps = [" ".join((step.tool.program, *step.arguments)) for step in self.steps]
        return {
            "digest": self.digest,
            "files": files,
            "commands": steps,
            "versions": dict(self.versions),
        }


def plan(board: Board, top: str = "", *, place: bool = True, seed: int = 1) -> BuildPlan:
    """Plan the synthesis of a board's NPU, or of one of its modules alone.

    Args:
        board: its array and memories are the RTL's parameters.
        top: a module of the RTL to look at by itself, without pins; empty for the whole board.
        place: run nextpnr too; else Yosys alone, which counts cells.
        seed: where nextpnr's random numbers start.

    Raises:
        SynthesisError: the board has no part, no module is called `top`, or a tool is missing.
        BoardError: the RTL has no form for this board.
    """
    part = load_part(board.name)
    if part is None or board.family not in FLOWS:
        raise SynthesisError(
            f"{board.name} stands for chips of any vendor and has no part to synthesize for",
            f"give {', '.join(rtl.PACKAGES)} and the other RTL files to the vendor's tools",
        )
    flow, whole = FLOWS[board.family], not top
    sources = rtl.sources()
    if whole:
        sources[f"{WHOLE}.sv"] = _board_top(part)
    elif f"{top}.sv" not in sources or f"{top}.sv" in rtl.PACKAGES:
        raise SynthesisError(f"no module of the RTL is called {top!r}")
    files = {**sources, SCRIPT: _script(sources, top or WHOLE, board, flow)}
    steps = [Step("synthesize", YOSYS, ("-q", "-l", "yosys.log", SCRIPT))]
    tools = [YOSYS]
    if place:
        if whole:
            files[f"pins.{flow.constraints}"] = _constraints(part, flow)
        if whole and flow.floorplanned:
            program = resources.files(__package__) / FLOORPLAN_PROGRAM
            files[FLOORPLAN_PROGRAM] = program.read_text(encoding="utf-8")
            files[SITES] = sites_file(part.device)
            arguments = ("-P", FLOORPLAN_PROGRAM, NETLIST, SITES, FLOORPLANNED)
            steps.append(Step("floorplan", FLOORPLAN, arguments))
            tools.append(FLOORPLAN)
        steps.append(Step("place and route", flow.place, _place(board, part, flow, seed, whole)))
        tools.append(flow.place)
        if whole:
            packed = (f"placed.{flow.placed}", f"{board.name}.{flow.bitstream}")
            steps.append(Step("pack", flow.pack, packed))
    return BuildPlan(
        board=board.name,
        top=top or WHOLE,
        clock_mhz=board.clock_mhz,
        whole=whole,
        resources=tuple(sorted(part.resources.items())),
        files=tuple(files.items()),
        steps=tuple(steps),
        versions=tuple((tool.distribution, tool.version) for tool in tools),
    )


def _board_top(part: Part) -> str:
    """The board's own module: its clock, its pins, and the NPU behind its link."""
    file = resources.files(__package__) / "tops" / f"{part.top}.sv"
    return file.read_text(encoding="utf-8")


def _script(sources: Mapping[str, str], top: str, board: Board, flow: Flow) -> str:
    """Yosys' commands. Where the part has room, modules are mapped one by one, each kind once, and
    put together then: in a tenth of the time, with timing as good, because they end in registers.
    """
    sized = BEHIND_LINK[board.array.core] if top == WHOLE else top
    # the parameters of the board that the module has
    known = re.findall(r"parameter int (\w+)", sources[f"{sized}.sv"].split(");", 1)[0])
    chosen = rtl.parameters(board)
    if board.link.kind == SERIAL:
        chosen |= {"CLOCKS_PER_BIT": board.clocks_per_bit}
    settings = " ".join(f"-set {name} {chosen[name]}" for name in known if name in chosen)
    lines = [f"read_verilog -sv {' '.join(sources)}"]
    if settings:
        lines.append(f"chparam {settings} {sized}")
    lines.append(f"{flow.synthesize} -top {top}")
    lines += ["flatten", "opt_clean", f"write_json {NETLIST}", f"tee -q -o {CELLS} stat -json"]
    return "\n".join(lines) + "\n"


def _constraints(part: Part, flow: Flow) -> str:
    """Where each port's pin is, in the family's own format."""
    if flow.constraints == "pcf":
        return "".join(f"set_io {port} {site}\n" for port, site in part.pins.items())
    lines = []
    for port, site in part.pins.items():
        lines.append(f'LOCATE COMP "{port}" SITE "{site}";')
        lines.append(f'IOBUF PORT "{port}" IO_TYPE=LVCMOS33;')
        if "clk" in port:
            lines.append(f'FREQUENCY PORT "{port}" {part.oscillator_mhz} MHZ;')
    return "\n".join(lines) + "\n"


def _place(board: Board, part: Part, flow: Flow, seed: int, whole: bool) -> tuple[str, ...]:
    options = [f"--{part.device}", "--package", part.package]
    if part.speed:
        options += ["--speed", part.speed]
    netlist = FLOORPLANNED if whole and flow.floorplanned else NETLIST
    options += ["--json", netlist, "--report", TIMING, "--seed", str(seed)]
    options += ["--freq", str(board.clock_mhz), "--timing-allow-fail"]
    if whole:
        options += [f"--{flow.constraints}", f"pins.{flow.constraints}"]
        options += [f"--{flow.placed_option}", f"placed.{flow.placed}", *flow.whole]
    elif board.family == "ecp5":
        options += ["--out-of-context"]
    return (*options, "-q", "-l", "nextpnr.log")
