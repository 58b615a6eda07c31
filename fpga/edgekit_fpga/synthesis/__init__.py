"""The NPU for real boards: Yosys and nextpnr from a build plan to resources, clock and bitstream.

`plan` says what will be done, `carry_out` does it, `read_report` tells what came out.
"""

from edgekit_fpga.synthesis.carrying_out import Took, carry_out
from edgekit_fpga.synthesis.errors import SynthesisError
from edgekit_fpga.synthesis.plan import BuildPlan, plan
from edgekit_fpga.synthesis.report import Report, Resource, Segment, Timing, read_report
from edgekit_fpga.synthesis.tools import check_tools

__all__ = [
    "BuildPlan",
    "Report",
    "Resource",
    "Segment",
    "SynthesisError",
    "Timing",
    "Took",
    "carry_out",
    "check_tools",
    "plan",
    "read_report",
]
