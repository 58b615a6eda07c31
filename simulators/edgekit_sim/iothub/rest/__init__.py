"""The hub's service side: the REST API of IoT Hub, and our own under `/edgekit/`."""

from edgekit_sim.iothub.rest.application import make_application

__all__ = ["make_application"]
