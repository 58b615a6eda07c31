"""`python -m edgekit_sim.iotedge.mqtt_broker ADDRESS PORT FOLDER`."""

import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

from edgekit_sim.iotedge.mqtt_broker.server import serve


async def main(address: str, port: int, folder: Path) -> None:
    """Serve until SIGTERM."""
    serving = asyncio.ensure_future(serve(address, port, folder / "broker.db"))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
