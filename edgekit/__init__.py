"""Takes a registered model to IoT Edge devices and FPGAs, and its telemetry home."""
