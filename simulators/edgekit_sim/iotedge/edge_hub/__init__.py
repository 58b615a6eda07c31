"""The device's edge hub: modules connect to it as to the hub, and its routes take their messages.

- routes: what `$edgeHub` desires, read
- forward: messages on their way, kept until somebody has them
- upstream: a connection to the hub for each module, made on its behalf
- server: where modules connect, and what ties the others together
"""

from edgekit_sim.iotedge.edge_hub.routes import EdgeRoutes, read_edge_routes
from edgekit_sim.iotedge.edge_hub.server import EdgeHub

__all__ = ["EdgeHub", "EdgeRoutes", "read_edge_routes"]
