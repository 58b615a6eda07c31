"""`python -m edgekit_runtime scorer|fpga-scorer|script-scorer|telemetry`: one module."""

import logging
import os
import sys

from edgekit_runtime.errors import ModuleError
from edgekit_runtime.settings import Settings

ROLES = ("scorer", "fpga-scorer", "script-scorer", "telemetry")


def main(arguments: list[str]) -> int:
    """Run one role until SIGTERM; exit 0 when told to end, 1 on an error, 2 on usage."""
    if len(arguments) != 1 or arguments[0] not in ROLES:
        print(f"usage: python -m edgekit_runtime {'|'.join(ROLES)}", file=sys.stderr)  # noqa: T201 a command
        return 2
    logging.basicConfig(
        level=os.environ.get("EDGEKIT_LOG", "INFO").upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    role = arguments[0]
    try:
        settings = Settings.read(os.environ, role)
        # each role imports what it needs and no more: an agent never loads ONNX Runtime
        if role == "scorer":
            from edgekit_runtime.scorer import serve

            serve(settings)
        elif role == "fpga-scorer":
            from edgekit_runtime.fpga_scorer import serve as serve_packages

            serve_packages(settings)
        elif role == "script-scorer":
            from edgekit_runtime.script_scorer import serve as serve_script

            serve_script(settings)
        else:
            from edgekit_runtime.telemetry import run

            run(settings)
    except ModuleError as error:
        logging.getLogger("edgekit_runtime").error(
            "%s%s", error, f"; {error.hint}" if error.hint else ""
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
