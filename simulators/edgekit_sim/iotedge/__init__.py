"""An IoT Edge device on this machine: the runtime, its modules, its local broker."""

from edgekit_sim.iotedge.config import DeviceConfig
from edgekit_sim.iotedge.edge_device import EdgeDevice
from edgekit_sim.iotedge.errors import DeviceError

__all__ = ["DeviceConfig", "DeviceError", "EdgeDevice"]
