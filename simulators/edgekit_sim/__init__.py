"""What stands in for the cloud and the devices: IoT Hub, IoT Edge, an OCI registry."""
