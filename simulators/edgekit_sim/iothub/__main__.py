"""`python -m edgekit_sim.iothub`: a hub in a process of its own."""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from edgekit_sim.iothub.errors import SimulatorError
from edgekit_sim.iothub.retention import DAYS, MEGABYTES, Retention
from edgekit_sim.iothub.routing.file import read_routes
from edgekit_sim.iothub.server import HUB_NAME, Settings, serve
from edgekit_sim.iothub.uploads import storage_of_environment


def main(arguments: list[str] | None = None) -> int:
    """Run a hub; 0 when it was told to stop, 1 when it could not start or go on."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING,
        format="%(asctime)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        settings = Settings(
            state=options.state,
            bind=tuple(options.bind or ["127.0.0.1"]),
            hostname=options.hostname,
            https_port=options.https_port,
            websocket_port=options.websocket_port or None,
            plain_port=options.plain_port,
            durable=not options.volatile,
            tier=options.tier,
            retention=Retention(options.retention_days, options.retention_megabytes * 10**6),
            storage=storage_of_environment(),
            file_notifications=options.file_notifications,
            routing=read_routes(options.routes) if options.routes else None,
        )
        run(settings, _print_json if options.json else _print_text, options.until_stdin_closes)
    except SimulatorError as error:
        hint = f"; {error.hint}" if error.hint else ""
        sys.stderr.write(f"edgekit_sim.iothub: {error}{hint}\n")
        return 1
    return 0


def run(settings: Settings, ready: Any, until_stdin_closes: bool = False) -> None:
    """Run a hub until SIGTERM, SIGINT or, if asked, the end of standard input.

    Args:
        settings: how to start it.
        ready: called with the hub's description when clients can connect.
        until_stdin_closes: stop when standard input ends: a parent that dies takes it along.
    """
    factory = None
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_serve(settings, ready, until_stdin_closes))


async def _serve(settings: Settings, ready: Any, until_stdin_closes: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if until_stdin_closes:
        threading.Thread(target=_wait_for_end, args=(loop, stop), daemon=True).start()
    await serve(settings, ready, stop)


def _wait_for_end(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        continue
    with contextlib.suppress(RuntimeError):  # the hub has ended already
        loop.call_soon_threadsafe(stop.set)


def _print_json(description: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(description) + "\n")
    sys.stdout.flush()


def _print_text(description: dict[str, Any]) -> None:
    ports = ", ".join(f"{name} {port}" for name, port in description["ports"].items())
    sys.stdout.write(f"hub {description['hostname']} on {description['host']} ({ports})\n")
    sys.stdout.write(f"service: {description['service_connection_string']}\n")
    sys.stdout.write(f"export SSL_CERT_FILE={description['ca_file']}\n")
    sys.stdout.write(f"export REQUESTS_CA_BUNDLE={description['ca_file']}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m edgekit_sim.iothub",
        description="An IoT Hub on this machine, for unmodified Azure SDKs.",
    )
    parser.add_argument("--state", type=Path, help="folder of its state; without it, none is kept")
    parser.add_argument(
        "--bind", action="append", help="address to listen on, or auto; may be repeated"
    )
    parser.add_argument("--hostname", default=HUB_NAME, help="the hub's name in tokens")
    parser.add_argument("--https-port", type=int, help="port of the REST API, 0 for a free one")
    parser.add_argument(
        "--websocket-port", type=int, default=443, help="MQTT over WebSocket; 0 for none"
    )
    parser.add_argument("--plain-port", type=int, help="MQTT without TLS, for load tests")
    parser.add_argument("--tier", default="none", help="keep a tier's rates: free, s1, s2, s3")
    parser.add_argument(
        "--file-notifications", action="store_true", help="tell the service side of uploaded files"
    )
    parser.add_argument("--routes", type=Path, help="file with the routing section to use")
    parser.add_argument(
        "--retention-days", type=float, default=DAYS, help="how long events are kept"
    )
    parser.add_argument(
        "--retention-megabytes",
        type=int,
        default=MEGABYTES,
        help="of state, beyond which the oldest events go",
    )
    parser.add_argument("--volatile", action="store_true", help="do not wait for the disk")
    parser.add_argument("--json", action="store_true", help="say where it is as one JSON object")
    parser.add_argument("--until-stdin-closes", action="store_true")
    parser.add_argument("--verbose", "-v", action="store_true", help="log to stderr")
    return parser


if __name__ == "__main__":
    sys.exit(main())
