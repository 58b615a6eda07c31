"""An OCI registry in a folder, for machines where none runs.

    with Registry(folder) as registry:
        print(registry.address)     # 127.0.0.1:41873

or as a program of its own: `python -m edgekit_sim.ociregistry --port 0 --state FOLDER`.
"""

from edgekit_sim.ociregistry.server import Registry

__all__ = ["Registry"]
