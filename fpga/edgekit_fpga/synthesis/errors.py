"""What can go wrong when the NPU is synthesized."""

from edgekit_fpga.errors import FpgaError


class SynthesisError(FpgaError):
    """A tool is missing or failed, or the board has no part to synthesize for."""
