"""Carries a build plan out: its files into a folder, its programs one after the other."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgekit_fpga.synthesis.errors import SynthesisError
from edgekit_fpga.synthesis.plan import BuildPlan, Step
from edgekit_fpga.synthesis.tools import INSTALL

POLL_SECONDS = 0.5
LEASH = Path(__file__).with_name("leash.py")
END_SECONDS = 5.0  # for a program that is interrupted to clear away its files
LOGS = {
    "synthesize": "yosys.log",
    "floorplan": "floorplan.log",
    "place and route": "nextpnr.log",
    "pack": "pack.log",
}
# what a log's newest line says the program is at
_PHASES = re.compile(
    r"^(?:[\d.]+ Executing (?P<yosys>\w+)"
    r"|Info: (?P<nextpnr>Packing|Running \w+|Creating initial|Promoting|Routing|Setting up routing)"
    r"|Info:\s+(?P<count>\d+) \|)",
)

Observe = Callable[[str], None]


@dataclass(frozen=True)
class Took:
    """The seconds a step took on this machine."""

    step: str
    seconds: float


def carry_out(plan: BuildPlan, folder: Path, observe: Observe = lambda _: None) -> tuple[Took, ...]:
    """Run a plan's steps in `folder`, which is made, and where all files and logs stay.

    The program under way ends with this call, and with this process.

    Args:
        plan: what to do.
        folder: where to do it.
        observe: told what is being done, several times a minute.

    Raises:
        SynthesisError: the folder cannot be written, or a program failed; its log is named.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in plan.files:
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise SynthesisError(f"cannot write to {folder}: {error.strerror}") from error
    return tuple(_run(step, folder, observe) for step in plan.steps)


def _run(step: Step, folder: Path, observe: Observe) -> Took:
    begin = time.monotonic()
    program, log = step.tool.path, folder / LOGS[step.name]
    if program is None:
        raise SynthesisError(f"{step.tool.program} is not here", INSTALL)
    said = folder / f"{log.stem}.stderr"
    log.unlink(missing_ok=True)
    observe(step.name)
    with said.open("wb") as output:
        leash = [sys.executable, "-I", str(LEASH), str(os.getpid())]
        running = subprocess.Popen(
            [*leash, program, *step.arguments],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while True:
                try:
                    code = running.wait(POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    observe(f"{step.name}: {_phase(log)}" if log.exists() else step.name)
        finally:
            _end(running)
    if code:
        raise SynthesisError(
            f"{step.tool.program} failed: {_reason(said, log, code)}",
            f"see {log if log.exists() else said}",
        )
    return Took(step.name, time.monotonic() - begin)


def _end(running: subprocess.Popen[bytes]) -> None:
    if running.poll() is None:
        running.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(END_SECONDS)
    running.kill()
    running.wait()


def _phase(log: Path) -> str:
    """What the end of a log says is being done."""
    for line in reversed(_tail(log)):
        if found := _PHASES.match(line):
            yosys, nextpnr, count = found.group("yosys", "nextpnr", "count")
            return (yosys or nextpnr or f"routing, {count} arcs tried").lower()
    return "starting"


def _tail(log: Path, size: int = 4096) -> list[str]:
    with log.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - size))
        return file.read().decode(errors="replace").splitlines()


def _reason(said: Path, log: Path, code: int) -> str:
    """The first line that tells an error, else the exit code."""
    lines = said.read_text(errors="replace").splitlines()
    if log.exists():
        lines += log.read_text(errors="replace").splitlines()
    errors = [line.strip() for line in lines if re.match(r"(.*: )?ERROR", line)]
    return errors[0] if errors else f"exit code {code}"
