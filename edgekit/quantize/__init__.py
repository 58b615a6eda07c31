"""From a float graph to one that computes in int8, and what that costs in accuracy."""

from edgekit.quantize.calibration import load_split
from edgekit.quantize.int8 import quantize
from edgekit.quantize.profiling import Profile, profile
from edgekit.quantize.report import Latency, Report, accuracy, compare

__all__ = [
    "Latency",
    "Profile",
    "Report",
    "accuracy",
    "compare",
    "load_split",
    "profile",
    "quantize",
]
