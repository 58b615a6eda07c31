"""What every scorer shares: its doors (HTTP, gRPC, MQTT), their queue, tokens and measurements."""
