"""One device run in this process until it is told to end; what both commands do."""

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from edgekit_sim.iotedge.config import DeviceConfig
from edgekit_sim.iotedge.engines import pick_engine
from edgekit_sim.iotedge.runtime import EdgeRuntime, claim
from edgekit_sim.lifeline import Lifeline


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


def quiet_libraries() -> None:
    """The SDK and the HTTP client tell what we tell better, and tell it with tracebacks."""
    for name in ("azure", "httpx", "paho"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


async def _until_told(runtime: EdgeRuntime, until_eof: bool) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    if until_eof:
        loop.add_reader(0, lambda: ended.set() if not os.read(0, 1024) else None)
    await runtime.run(ended)
