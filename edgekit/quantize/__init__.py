"""From a float graph to one that computes in int8, and what that costs in accuracy."""

from edgekit.quantize.calibration import load_split
from edgekit.quantize.int8 import Recipe, quantize
from edgekit.quantize.layers import LayerError, layer_errors
from edgekit.quantize.profiling import Profile, profile
from edgekit.quantize.report import Latency, Report, accuracy, compare

__all__ = [
    "Latency",
    "LayerError",
    "Profile",
    "Recipe",
    "Report",
    "accuracy",
    "compare",
    "layer_errors",
    "load_split",
    "profile",
    "quantize",
]
