"""What runs where the model runs: the scorer and the telemetry agent."""
