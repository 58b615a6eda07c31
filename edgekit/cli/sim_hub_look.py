"""`edgekit sim hub events`, `routes`, `device`, `twin` and `invoke`: a look at a hub that runs."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from edgekit.cli.output import json_option, print_json, print_table, say
from edgekit.errors import EdgekitError
from edgekit.wholefile import whole_file

POLL_SECONDS = 0.5
BODY_WIDTH = 40

state_option = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".hub"),
    show_default=True,
    help="Folder of the running hub's state.",
)


def hub_of(state: Path) -> Any:
    """A client of the hub that runs on a state folder."""
    from edgekit_sim.iothub import find_hub

    return find_hub(state)


def _read_json(_ctx: click.Context, _param: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}") from error


def _path(device: str, module: str | None) -> str:
    path = quote(device, safe="")
    return f"{path}/modules/{quote(module, safe='')}" if module else path


@click.command()
@state_option
@click.option("--after", type=int, default=0, help="Only events after this sequence number.")
@click.option("--device", help="Only events of this device.")
@click.option("--endpoint", default="", help="An event stream that routes lead to.")
@click.option("--follow", "-f", is_flag=True, help="Go on with new ones until Ctrl-C.")
@json_option
def events(
    state: Path, after: int, device: str | None, endpoint: str, follow: bool, as_json: bool
) -> None:
    """Show what devices sent.

    \b
    Examples:
      edgekit sim hub events --follow
      edgekit sim hub events --device d1 --json
      edgekit sim hub events --endpoint alerts
    """
    hub = hub_of(state)
    found = hub.events(after, endpoint)
    if not follow:
        chosen = [event for event in found if device in (None, event["deviceId"])]
        if as_json:
            print_json({"events": chosen})
        else:
            print_table("", ("sequence", "device", "time", "id", "body"), map(_row, chosen))
        return
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            for event in found:
                after = event["sequence"]
                if device in (None, event["deviceId"]):
                    click.echo(json.dumps(event) if as_json else _line(event))
            time.sleep(POLL_SECONDS)
            found = hub.events(after, endpoint)


@click.command()
@state_option
@json_option
def routes(state: Path, as_json: bool) -> None:
    """Show the routes of a running hub, and how their endpoints are.

    \b
    Examples:
      edgekit sim hub routes
      edgekit sim hub routes --json    the whole routing section, and the endpoints' health
    """
    hub = hub_of(state)
    routing = hub.routing()
    health = hub.request("GET", "/edgekit/routing/health")["value"]
    if as_json:
        print_json({"routing": routing, "health": health})
        return
    fallback = routing["fallbackRoute"]
    print_table(
        "Routes",
        ("route", "source", "condition", "endpoints", "on"),
        [
            (
                route["name"],
                route["source"],
                route["condition"],
                ", ".join(route["endpointNames"]),
                "yes" if route["isEnabled"] else "no",
            )
            for route in (*routing["routes"], fallback)
        ],
    )
    print_table(
        "Endpoints",
        ("endpoint", "health", "waiting", "last error"),
        [
            (
                one["endpointId"],
                one["healthStatus"],
                one.get("waitingMessages"),
                one.get("lastKnownError"),
            )
            for one in health
        ],
    )


def _row(event: dict[str, Any]) -> tuple[Any, ...]:
    source = event["deviceId"]
    if event["moduleId"]:
        source += f"/{event['moduleId']}"
    body = event["body"] if isinstance(event["body"], str) else json.dumps(event["body"])
    short = body if len(body) <= BODY_WIDTH else body[: BODY_WIDTH - 3] + "..."
    identifier = event["systemProperties"].get("message-id")
    return event["sequence"], source, event["enqueuedTime"][11:23], identifier, short


def _line(event: dict[str, Any]) -> str:
    sequence, source, moment, _, body = _row(event)
    return f"{sequence:>8}  {moment}  {source}  {body}"


@click.group()
def device() -> None:
    """Register devices of a running hub, and list them.

    \b
    Examples:
      edgekit sim hub device create d1 --edge --tag site=a -o d1.connection
      edgekit sim hub device list
    """


@device.command("create")
@click.argument("name")
@state_option
@click.option("--edge", is_flag=True, help="An IoT Edge device.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag of its twin.")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for its connection string, readable by its owner only.",
)
@json_option
def create(
    name: str,
    state: Path,
    edge: bool,
    tags: tuple[str, ...],
    output: Path | None,
    as_json: bool,
) -> None:
    """Register a device, and write its connection string to a file.

    \b
    Examples:
      edgekit sim hub device create d1 -o d1.connection
      edgekit sim hub device create d2 --edge --tag site=a --tag line=7
    """
    patch = dict(_tag(tag) for tag in tags)
    hub = hub_of(state)
    hub.create_device(name, edge=edge)
    if patch:
        hub.request("PATCH", f"/twins/{_path(name, None)}", {"tags": patch})
    if output is not None:
        _write_secret(output, hub.device_connection_string(name) + "\n")
    if as_json:
        print_json({"device": name, "edge": edge, "tags": patch, "output": output})
        return
    say(f"Registered {name}." + (f" Its connection string is in {output}." if output else ""))


def _tag(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--tag")
    return key, value


def _write_secret(path: Path, text: str) -> None:
    """Write a file whole or not at all, readable by its owner only."""
    try:
        with whole_file(path, 0o600) as file:
            file.write(text.encode())
    except OSError as error:
        raise EdgekitError(
            f"{path} cannot be written: {error.strerror}", "name another file with --output"
        ) from error


@device.command("list")
@state_option
@json_option
def list_devices(state: Path, as_json: bool) -> None:
    """List the devices of a running hub.

    \b
    Examples:
      edgekit sim hub device list
      edgekit sim hub device list --json
    """
    hub = hub_of(state)
    twins = hub.request("POST", "/devices/query", {"query": "SELECT * FROM devices"})
    rows = [
        {
            "device": twin["deviceId"],
            "status": twin["status"],
            "connection": twin["connectionState"],
            "edge": twin["capabilities"]["iotEdge"],
            "tags": twin["tags"],
        }
        for twin in twins
    ]
    if as_json:
        print_json({"devices": rows})
        return
    table = [
        (*(row[key] for key in ("device", "status", "connection", "edge")), json.dumps(row["tags"]))
        for row in rows
    ]
    print_table("", ("device", "status", "connection", "edge", "tags"), table)


@click.command()
@click.argument("device_id", metavar="DEVICE")
@click.option("--module", help="A module of the device.")
@click.option("--desired", callback=_read_json, metavar="JSON", help="Patch desired properties.")
@click.option("--tags", callback=_read_json, metavar="JSON", help="Patch tags.")
@state_option
@json_option
def twin(
    device_id: str, module: str | None, desired: Any, tags: Any, state: Path, as_json: bool
) -> None:
    """Show a twin, or change it.

    \b
    Examples:
      edgekit sim hub twin d1
      edgekit sim hub twin d1 --module '$edgeAgent'
      edgekit sim hub twin d1 --desired '{"rate": 5}'
    """
    del as_json  # a twin is JSON in any case
    hub = hub_of(state)
    path = f"/twins/{_path(device_id, module)}"
    change: dict[str, Any] = {}
    if desired is not None:
        change["properties"] = {"desired": desired}
    if tags is not None:
        change["tags"] = tags
    print_json(hub.request("PATCH", path, change) if change else hub.request("GET", path))


@click.command()
@click.argument("device_id", metavar="DEVICE")
@click.argument("method")
@click.argument("payload", callback=_read_json, default="null")
@click.option("--module", help="A module of the device.")
@click.option("--timeout", type=click.IntRange(5, 300), default=30, show_default=True)
@state_option
@json_option
def invoke(
    device_id: str,
    method: str,
    payload: Any,
    module: str | None,
    timeout: int,
    state: Path,
    as_json: bool,
) -> None:
    """Call a direct method and show the answer.

    \b
    Examples:
      edgekit sim hub invoke d1 restart
      edgekit sim hub invoke d1 set '{"rate": 5}' --module scorer
    """
    del as_json  # an answer is JSON in any case
    call = {"methodName": method, "payload": payload, "responseTimeoutInSeconds": timeout}
    print_json(hub_of(state).request("POST", f"/twins/{_path(device_id, module)}/methods", call))
