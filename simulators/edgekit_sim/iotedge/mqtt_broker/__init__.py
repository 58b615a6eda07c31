"""A small MQTT 3.1.1 broker for one device, where no mosquitto is.

QoS 0 and 1, persistent sessions, retained messages, wills. What it acknowledged is on disk: it can
be killed at any point and started again. The packets are those of the hub.
"""

from edgekit_sim.iotedge.mqtt_broker.server import serve

__all__ = ["serve"]
