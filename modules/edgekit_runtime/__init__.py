"""What runs where the model runs: the scorer and the telemetry agent."""

__version__ = "0.1.0"
