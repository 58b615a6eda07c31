"""`edgekit sim hub`: run an IoT Hub, and look at one that runs."""

import sys
from pathlib import Path
from typing import Any

import click

from edgekit.cli.output import json_option, say
from edgekit.cli.sim_hub_fault import fault
from edgekit.cli.sim_hub_look import device, events, invoke, routes, twin


@click.group(invoke_without_command=True)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the hub's state; without it nothing is kept.",
)
@click.option(
    "--bind",
    multiple=True,
    default=("127.0.0.1",),
    show_default=True,
    help="Address to listen on, or auto for a free loopback address; may be repeated.",
)
@click.option("--hostname", default=None, help="The hub's name in tokens.")
@click.option("--https-port", type=int, default=None, help="Port of the REST API; 0: a free one.")
@click.option(
    "--tier",
    type=click.Choice(["none", "free", "s1", "s2", "s3"]),
    default="none",
    show_default=True,
    help="Keep the rates of a tier of the real service.",
)
@click.option(
    "--file-notifications", is_flag=True, help="Tell the service side of files devices uploaded."
)
@click.option(
    "--routes",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="YAML file with the routing section to use from now on.",
)
@click.option(
    "--retention-days",
    type=click.FloatRange(0, 3650, min_open=True),
    default=1.0,
    show_default=True,
    help="How long events are kept.",
)
@click.option(
    "--retention-megabytes",
    type=click.IntRange(1),
    default=4000,
    show_default=True,
    help="Size of the state beyond which the oldest events go.",
)
@click.option("--until-stdin-closes", is_flag=True, help="Stop when standard input ends.")
@json_option
@click.pass_context
def hub(ctx: click.Context, /, until_stdin_closes: bool, as_json: bool, **options: Any) -> None:
    """Run an IoT Hub for unmodified Azure SDKs, until it is told to stop.

    \b
    Examples:
      edgekit sim hub --state .hub
      edgekit sim hub --bind auto --json
      edgekit sim hub --bind 127.0.0.1 --bind 172.17.0.1    for containers, too
      edgekit sim hub --state .hub --routes routes.yaml
      edgekit sim hub events --follow
      edgekit sim hub fault lose-acks --share 0.1
    """
    if ctx.invoked_subcommand is not None:
        return
    from edgekit_sim.iothub.__main__ import run
    from edgekit_sim.iothub.retention import Retention
    from edgekit_sim.iothub.routing.file import read_routes
    from edgekit_sim.iothub.server import HUB_NAME, Settings
    from edgekit_sim.iothub.uploads import storage_of_environment

    settings = Settings(
        state=options["state"],
        bind=options["bind"],
        hostname=options["hostname"] or HUB_NAME,
        https_port=options["https_port"],
        tier=options["tier"],
        retention=Retention(options["retention_days"], options["retention_megabytes"] * 10**6),
        storage=storage_of_environment(),
        file_notifications=options["file_notifications"],
        routing=read_routes(options["routes"]) if options["routes"] else None,
    )
    run(settings, _print_json if as_json else _print_text, until_stdin_closes)


for command in (device, events, fault, invoke, routes, twin):
    hub.add_command(command)


def _print_json(description: dict[str, Any]) -> None:
    import json

    click.echo(json.dumps(description))
    sys.stdout.flush()


def _print_text(description: dict[str, Any]) -> None:
    address, ports = description["host"], description["ports"]
    click.echo(f"Hub {description['hostname']} is ready on {address}.")
    click.echo("")
    click.echo("In the shell of whoever talks to it:")
    click.echo(f"  export SSL_CERT_FILE={description['ca_file']}")
    click.echo(f"  export REQUESTS_CA_BUNDLE={description['ca_file']}")
    click.echo("Service side (azure-iot-hub, edgekit fleet):")
    click.echo(f"  {description['service_connection_string']}")
    click.echo("Devices (azure-iot-device), with the key the registry gives:")
    click.echo(
        f"  HostName={description['hostname']};DeviceId=...;SharedAccessKey=..."
        f";GatewayHostName={address}"
    )
    click.echo(
        "Provisioning service, for its service client; devices register at the address above:"
    )
    click.echo(f"  {description['dps_service_connection_string']}")
    click.echo(f"  id scope {description['dps_id_scope']}")
    click.echo(f"State: {description['state_dir']}")
    if "websocket" not in ports:
        say("MQTT over WebSocket is off: port 443 is in use or needs more rights.")
    say("Ctrl-C stops it.")
    sys.stdout.flush()
