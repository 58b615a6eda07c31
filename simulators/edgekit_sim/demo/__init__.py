"""The whole line on this machine: from a registered model to telemetry in the cloud."""
