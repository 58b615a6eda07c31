"""`python -m edgekit_sim.iotedge --config device.toml`: one simulated device."""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.errors import EdgekitError
from edgekit_sim.iotedge.config import DeviceConfig
from edgekit_sim.iotedge.engine import pick_engine
from edgekit_sim.iotedge.runtime import EdgeRuntime, claim
from edgekit_sim.lifeline import Lifeline

log = logging.getLogger("edgekit_sim.iotedge")


def print_status(status: Mapping[str, Any]) -> None:
    """One JSON object a line on stdout."""
    sys.stdout.write(json.dumps(status) + "\n")
    sys.stdout.flush()


def say_status(status: Mapping[str, Any]) -> None:
    """One line for people on stderr."""
    modules = ", ".join(f"{n} {m['runtimeStatus']}" for n, m in status["modules"].items())
    connected = "connected" if status["connected"] else "offline"
    sys.stderr.write(f"{status['device']}: {connected}; {modules or 'no modules'}\n")


def run_device(config: DeviceConfig, as_json: bool, until_eof: bool = False) -> None:
    """Run a device until SIGTERM, SIGINT or, where asked for, the end of stdin.

    Raises:
        DeviceError: it cannot be started.
    """
    containers = pick_engine(config.engine) == "docker"
    with claim(config.state), Lifeline("device", containers) as lifeline:
        runtime = EdgeRuntime(config, lifeline, print_status if as_json else say_status)
        asyncio.run(_until_told(runtime, until_eof))


async def _until_told(runtime: EdgeRuntime, until_eof: bool) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    if until_eof:
        loop.add_reader(0, lambda: ended.set() if not os.read(0, 1024) else None)
    await runtime.run(ended)


def main() -> int:
    """Exit 0 when told to end, 1 on an error."""
    parser = argparse.ArgumentParser(description="Simulates one IoT Edge device.")
    parser.add_argument("--config", type=Path, required=True, help="the device's TOML file")
    parser.add_argument("--json", action="store_true", help="print the status as JSON lines")
    parser.add_argument("--until-eof", action="store_true", help="end when stdin ends")
    options = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("azure", "httpx", "paho"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        run_device(DeviceConfig.read(options.config), options.json, options.until_eof)
    except EdgekitError as error:
        log.error("%s%s", error, f"; {error.hint}" if error.hint else "")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
