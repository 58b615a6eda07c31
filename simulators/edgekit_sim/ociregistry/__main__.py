"""`python -m edgekit_sim.ociregistry`: serve a folder until told to stop."""

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from edgekit_sim.ociregistry.server import listening


async def _serve(host: str, port: int, state: Path) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with listening(state, host, port) as address:
        sys.stdout.write(json.dumps({"address": address}) + "\n")
        sys.stdout.flush()
        await stopped.wait()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m edgekit_sim.ociregistry",
        description="An OCI registry in a folder. Prints one JSON line with its address.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=5000, help="port; 0 takes a free one")
    parser.add_argument("--state", type=Path, required=True, help="folder that holds everything")
    arguments = parser.parse_args()
    try:
        asyncio.run(_serve(arguments.host, arguments.port, arguments.state))
    except OSError as error:
        where = f"{arguments.host}:{arguments.port}"
        sys.exit(f"ociregistry: cannot serve {arguments.state} at {where}: {error.strerror}")


if __name__ == "__main__":
    main()
