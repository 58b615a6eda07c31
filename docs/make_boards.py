"""Writes docs/npu-boards.md from what `edgekit fpga synth --json` said; a test compares them."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgekit_fpga import rtl

TARGET = Path(__file__).with_name("npu-boards.md")
REPORTS = Path(__file__).with_name("boards")

HEAD = """# The NPU on boards

What synthesis, placement and routing made of the NPU, by open tools alone. Made by `make docs` from
the reports in [boards](boards), each of which is what the command above its table printed.
"""


def page() -> str:
    """The whole page, Markdown."""
    reports = [json.loads(path.read_text()) for path in sorted(REPORTS.glob("*.json"))]
    return "\n".join([HEAD, *("\n".join(_section(report)) for report in reports)])


def _section(report: dict[str, Any]) -> Iterator[str]:
    board, plan, timing = report["board"], report["plan"], report["timing"]
    tools = ", ".join(f"{name} {version}" for name, version in plan["versions"].items())
    took = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in report["seconds"].items())
    yield f"## {board}\n"
    yield f"```\nedgekit fpga synth --board {board}{'' if timing else ' --no-place'} --json\n```\n"
    of = "this RTL" if _current(plan) else "an earlier RTL"
    yield f"Plan `{plan['digest'][:19]}`, of {of}; {tools}."
    yield f"It took: {took}.\n"
    yield "| Resource | Used | Available | Share |\n|---|---|---|---|"
    for kind, one in sorted(report["resources"].items()):
        share = 100 * one["used"] / one["available"]
        yield f"| {kind} | {one['used']:,} | {one['available']:,} | {share:.0f}% |"
    yield f"\n{'It fits' if report['fits'] else 'It does not fit'}; {_clock(timing)}\n"


def _clock(timing: dict[str, Any] | None) -> str:
    if timing is None:
        return "it was not placed, so nothing is known of its clock."
    path = sum(piece["logic"] + piece["routing"] for piece in timing["path"])
    return (
        f"{timing['reached_mhz']:.1f} MHz {'meet' if timing['met'] else 'miss'} the board's"
        f" {timing['wanted_mhz']:.0f} MHz. The slowest path, {path:.1f} ns, goes from"
        f" `{timing['start']}` to `{timing['end']}`."
    )


def _current(plan: dict[str, Any]) -> bool:
    """Whether the RTL it was made of is that of this tree."""
    digests = {
        name: hashlib.sha256(text.encode()).hexdigest() for name, text in rtl.sources().items()
    }
    return digests.items() <= plan["files"].items()


if __name__ == "__main__":
    TARGET.write_text(page())
