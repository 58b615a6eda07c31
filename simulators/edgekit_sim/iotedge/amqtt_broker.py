"""`python -m edgekit_sim.iotedge.amqtt_broker ADDRESS PORT`: a broker where no mosquitto is.

Sessions live in its memory: a broker that is killed forgets what it had queued, as mosquitto does
not. The scorer and the telemetry agent can be killed at any time with either.
"""

import asyncio
import logging
import sys

from amqtt.broker import Broker


async def serve(address: str, port: int) -> None:
    """Serve anybody on a loopback address, until killed."""
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{address}:{port}"}},
            "plugins": {
                "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
            },
        }
    )
    await broker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
