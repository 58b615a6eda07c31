"""`edgekit sim`: what stands in for the cloud and the devices on this machine."""

import importlib

import click

# verb -> module that has it, as a command or group of the same name, and its one line
VERBS = {
    "device": ("edgekit.cli.sim_device", "Run an IoT Edge device, its modules and its broker."),
    "hub": ("edgekit.cli.sim_hub", "Run an IoT Hub for unmodified Azure SDKs."),
}


class Verbs(click.Group):
    """A group whose verbs live in modules of their own, each imported when it is used."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """The verbs, in alphabetical order."""
        return sorted(VERBS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """The command object of a verb."""
        if name not in VERBS:
            return None
        command = getattr(importlib.import_module(VERBS[name][0]), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs with their one line, importing none of them."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, VERBS[name][1]) for name in sorted(VERBS)])


@click.group(cls=Verbs)
def sim() -> None:
    """Run a hub, a device or an OCI registry on this machine.

    \b
    Examples:
      edgekit sim hub                  an IoT Hub, until Ctrl-C
      edgekit sim hub --json           the same for scripts: one object, then it serves
      edgekit sim hub events --follow  what devices send, as it comes
    """
