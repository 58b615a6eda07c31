"""`edgekit doctor`: what of this machine edgekit can use."""

from dataclasses import asdict

import click

from edgekit.cli.output import json_option, print_json, print_table, say


@click.command()
@json_option
def doctor(as_json: bool) -> int:
    """Say what of this machine edgekit can use, and how to get what is missing.

    \b
    Examples:
      edgekit doctor
      edgekit doctor --json

    Exits 1 when something edgekit cannot do without is missing.
    """
    from edgekit.diagnosis import diagnose

    checks = diagnose()
    ok = all(check.found or not check.required for check in checks)
    if as_json:
        print_json({"ok": ok, "checks": [asdict(check) for check in checks]})
        return 0 if ok else 1
    print_table(
        "",
        ("", "What", "Found", "For"),
        [("ok" if c.found else "--", c.name, c.detail, c.gives) for c in checks],
    )
    missing = [check for check in checks if not check.found]
    for check in missing:
        need = "missing" if check.required else "optional"
        say(f"{need}: {check.name}, {check.detail}: {check.remedy}")
    if not missing:
        say("Everything edgekit can use is here.")
    return 0 if ok else 1
