"""`edgekit sim`: what stands in for the cloud and the devices on this machine."""

import click

from edgekit.cli.lazy import LazyGroup

# verb -> module that has it, as a command or group of the same name, and its one line
VERBS = {
    "device": ("edgekit.cli.sim_device", "Run an IoT Edge device, its modules and its broker."),
    "hub": ("edgekit.cli.sim_hub", "Run an IoT Hub for unmodified Azure SDKs."),
    "registry": ("edgekit.cli.sim_registry", "Run an OCI registry in a folder."),
}


@click.group(cls=LazyGroup, modules=VERBS, heading="Verbs")
def sim() -> None:
    """Run a hub, a device or an OCI registry on this machine.

    \b
    Examples:
      edgekit sim hub                  an IoT Hub, until Ctrl-C
      edgekit sim hub --json           the same for scripts: one object, then it serves
      edgekit sim registry             an OCI registry at 127.0.0.1:5000
    """
