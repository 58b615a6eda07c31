"""An IoT Hub on this machine, for unmodified Azure SDKs.

`start_hub()` runs one in a child process; `python -m edgekit_sim.iothub` and `edgekit sim hub` run
one on the command line; the pytest fixture `iothub` gives one to a test.
"""

from edgekit_sim.iothub.client import HubClient, find_hub
from edgekit_sim.iothub.errors import HubStopped, SimulatorError
from edgekit_sim.iothub.handle import HubHandle, start_hub

__all__ = [
    "HubClient",
    "HubHandle",
    "HubStopped",
    "SimulatorError",
    "find_hub",
    "start_hub",
]
