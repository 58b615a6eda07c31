"""`python -m edgekit_sim.iotedge --config device.toml`: one simulated device."""

import argparse
import logging
import sys
from pathlib import Path

from edgekit.errors import EdgekitError
from edgekit_sim.iotedge.config import DeviceConfig
from edgekit_sim.iotedge.running import quiet_libraries, run_device

log = logging.getLogger("edgekit_sim.iotedge")


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
    quiet_libraries()
    try:
        run_device(DeviceConfig.read(options.config), options.json, options.until_eof)
    except EdgekitError as error:
        log.error("%s%s", error, f"; {error.hint}" if error.hint else "")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
