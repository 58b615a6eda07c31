"""`edgekit sim hub fault`: what goes wrong in a hub that runs, and when it is over."""

from pathlib import Path
from typing import Any

import click

from edgekit.cli.output import json_option, print_json, print_table, say
from edgekit.cli.sim_hub_look import hub_of, state_option

HEAL = "heal"
# as edgekit_sim.iothub.faults has them; a test compares the two
KINDS = {
    "partition": "connections are reset, and new ones too",
    "disconnect": "connections are reset, once",
    "refuse-tokens": "no device's token or certificate is good",
    "lose-acks": "what is sent is stored, the answer lost with the connection",
    "drop": "messages are lost together with the connection",
    "delay": "answers come --milliseconds later",
    "throttle": "REST calls and twin requests are answered 429",
    "clock-skew": "the hub's clock is --milliseconds ahead",
}


def _help() -> str:
    width = max(map(len, KINDS))
    return "\n".join(f"  {name:{width}}  {what}" for name, what in KINDS.items())


@click.command(epilog=f"\b\nKinds:\n{_help()}")
@click.argument("kind", type=click.Choice([*KINDS, HEAL]), required=False, metavar="[KIND|heal]")
@click.option("--device", "devices", multiple=True, help="Only this device; may be repeated.")
@click.option(
    "--share",
    type=click.FloatRange(0, 1),
    help="Only a share of the devices, or of messages and requests, from 0 to 1.",
)
@click.option("--seed", type=int, help="What the share is drawn with: the same seed, the same run.")
@click.option("--seconds", type=click.FloatRange(0), help="How long; without it, until healed.")
@click.option("--milliseconds", type=float, help="How much, for delay and clock-skew.")
@click.option("--of", "healed", type=click.Choice(list(KINDS)), help="With heal: only this kind.")
@state_option
@json_option
def fault(
    kind: str | None,
    devices: tuple[str, ...],
    healed: str | None,
    state: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Begin a fault in a running hub, end it, or show what is in force.

    \b
    Examples:
      edgekit sim hub fault partition --device d1 --seconds 30
      edgekit sim hub fault lose-acks --share 0.1 --seed 7
      edgekit sim hub fault delay --milliseconds 500
      edgekit sim hub fault                    what is in force
      edgekit sim hub fault heal               all is well again
    """
    given = {name: value for name, value in options.items() if value is not None}
    _check(kind, healed, bool(given or devices))
    hub = hub_of(state)
    if kind == HEAL:
        hub.request("POST", "/edgekit/faults", {"fault": HEAL, "kind": healed})
    elif kind is not None:
        hub.fault(kind, devices=list(devices) or None, **given)
    found = hub.request("GET", "/edgekit/faults")
    if as_json:
        print_json({"faults": found})
    elif kind is None:
        columns = ("fault", "devices", "share", "seed", "seconds", "milliseconds")
        print_table("", columns, [tuple(_cell(one[name]) for name in columns) for one in found])
    else:
        say("All is well again." if not found else f"In force: {', '.join(map(_name, found))}.")


def _check(kind: str | None, healed: str | None, narrowed: bool) -> None:
    if healed is not None and kind != HEAL:
        raise click.UsageError("--of goes with heal")
    if narrowed and kind in (None, HEAL):
        raise click.UsageError("these options go with a kind of fault")


def _name(one: dict[str, Any]) -> str:
    return str(one["fault"])


def _cell(value: Any) -> Any:
    return ", ".join(value) if isinstance(value, list) else value
