"""`edgekit sim device`: one IoT Edge device on this machine."""

from pathlib import Path

import click

from edgekit.cli.output import json_option


@click.command()
@click.argument("connection_string_file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--config", type=click.Path(path_type=Path), help="A TOML file with all of a device's settings."
)
@click.option(
    "--state", type=click.Path(path_type=Path), help="The device's disk.  [default: device-state]"
)
@click.option("--address", help="Its own loopback address, 127.x.y.z.  [default: 127.0.0.1]")
@click.option("--rest", help="URL of the hub's REST API, where that is not https://GATEWAY.")
@click.option("--ca", help="PEM file with the hub's certificate authority.")
@click.option("--policy", help="TOML file that says who must have signed what runs here.")
@click.option("--engine", help="docker, process or auto.  [default: auto]")
@click.option("--broker", help="mosquitto, edgekit or auto.  [default: auto]")
@click.option("--broker-port", type=int, help="Port of the local MQTT broker.  [default: 1883]")
@click.option("--edge-hub", help="on: carry out the routes of edgeHub; or off.  [default: off]")
@json_option
def device(
    connection_string_file: Path | None, config: Path | None, as_json: bool, **options: object
) -> None:
    """Run one IoT Edge device until Ctrl-C.

    It takes its deployment from the hub, runs the modules as containers or as processes, and has
    a local MQTT broker. Its connection string is read from a file, never from the command line.

    \b
    Examples:
      edgekit sim device camera-1.txt --address 127.0.1.1 --ca hub/ca.pem \\
          --rest https://127.0.0.1:8443
      edgekit sim device --config camera-1.toml
      edgekit sim device --config camera-1.toml --json   its status, one object a line
    """
    from edgekit_sim.iotedge import DeviceConfig
    from edgekit_sim.iotedge.running import quiet_libraries, run_device

    given = {name: value for name, value in options.items() if value is not None}
    if config is not None:
        if connection_string_file is not None or given:
            raise click.UsageError("--config has all the settings; give it alone")
        settings = DeviceConfig.read(config)
    elif connection_string_file is not None:
        data = {"state": "device-state", "connection_string_file": connection_string_file, **given}
        texts = {n: str(v) if isinstance(v, Path) else v for n, v in data.items()}
        settings = DeviceConfig.from_mapping(texts, Path.cwd(), "the command line")
    else:
        raise click.UsageError("name the device's connection string file, or --config")
    quiet_libraries()
    run_device(settings, as_json)
