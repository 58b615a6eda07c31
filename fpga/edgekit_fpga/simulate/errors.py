"""What can go wrong when RTL is simulated."""

from edgekit_fpga.errors import FpgaError


class SimulationError(FpgaError):
    """The simulator cannot be built, or a run did not end as it must."""
