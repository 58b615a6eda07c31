"""The telemetry agent: what it acknowledges is on disk and reaches the hub at least once."""

from edgekit_runtime.telemetry.agent import run

__all__ = ["run"]
