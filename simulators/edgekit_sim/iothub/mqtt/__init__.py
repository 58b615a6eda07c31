"""The hub's device side: MQTT 3.1.1 over TLS and over WebSocket."""
