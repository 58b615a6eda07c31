"""A routing section in a file, YAML or JSON."""

from pathlib import Path

import yaml

from edgekit_sim.iothub.errors import HubFault, SimulatorError
from edgekit_sim.iothub.routing.configuration import Routing, read_routing


def read_routes(path: Path) -> Routing:
    """Read the routing section in a file.

    Raises:
        SimulatorError: there is none, or it is wrong; one line says what and where.
    """
    try:
        document = yaml.safe_load(path.read_text())
        return read_routing(document)
    except OSError as error:
        raise SimulatorError(
            f"{path} cannot be read: {error.strerror}", "name the file of the routes"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not text"
        raise SimulatorError(f"{path}{where}: {problem}", "write it as YAML or JSON") from error
    except HubFault as fault:
        raise SimulatorError(f"{path}: {fault}") from fault
