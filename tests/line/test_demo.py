"""The demo: right on this machine, and gone without a trace when it is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit_sim.lifeline import LABEL

DEMO = [sys.executable, "-m", "edgekit", "demo"]


def _run(engine: str, environment: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(
        [*DEMO, "--engine", engine, "--json"], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _check(report: dict[str, Any]) -> None:
    telemetry = report["telemetry"]
    assert report["failures"] == []
    assert report["ok"] is True
    assert report["devices"] == 3
    assert report["fpga"]["compared"] > 0
    assert report["fpga"]["mismatches"] == 0
    assert report["image"]["platforms"] == ["linux/amd64", "linux/arm64"]
    assert telemetry["sent"] == telemetry["received"] > 0
    assert (telemetry["lost"], report["prediction_mismatches"]) == (0, 0)


@pytest.mark.timeout(400)
def test_the_line_with_modules_as_processes(environment: dict[str, str]) -> None:
    _check(_run("process", environment))


@pytest.mark.needs("docker")
@pytest.mark.timeout(400)
def test_the_line_with_modules_in_docker(environment: dict[str, str]) -> None:
    _check(_run("docker", environment))


def _alive(marker: str) -> Iterator[str]:
    """Command lines of the processes whose environment holds `marker`."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if marker.encode() in (entry / "environ").read_bytes():
                    yield (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:  # it ended while we looked
                continue


def _gone(marker: str, seconds: float = 30) -> list[str]:
    """What is left of the processes with `marker` after at most `seconds`."""
    deadline = time.monotonic() + seconds
    while (left := list(_alive(marker))) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def _kill_at(
    stage: str, engine: str, whole_group: bool, environment: dict[str, str], folder: Path
) -> str:
    """Start the demo, kill it when it reports `stage`; returns the mark of all its processes."""
    mark = f"{folder.name}-{time.time_ns()}"
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [*DEMO, "--engine", engine],
            stdout=out,
            stderr=out,
            env={**environment, "EDGEKIT_TEST_MARK": mark},
            start_new_session=True,
        )
        while stage not in log.read_text() and process.poll() is None:
            time.sleep(0.05)
        assert process.poll() is None, log.read_text()
        if whole_group:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
    return mark


@pytest.mark.parametrize(
    ("stage", "whole_group"),
    [("push the image", False), ("roll out", True), ("receive in the hub", False)],
)
@pytest.mark.timeout(300)
def test_a_killed_demo_leaves_no_process(
    stage: str, whole_group: bool, environment: dict[str, str], tmp_path: Path
) -> None:
    assert _gone(_kill_at(stage, "process", whole_group, environment, tmp_path)) == []


@pytest.mark.needs("docker")
@pytest.mark.timeout(300)
def test_a_killed_demo_leaves_no_container(environment: dict[str, str], tmp_path: Path) -> None:
    before = _containers()
    mark = _kill_at("receive in the hub", "docker", True, environment, tmp_path)
    assert _gone(mark) == []
    assert _containers() <= before


def _containers() -> set[str]:
    """Every container that a run of edgekit labelled, in any state."""
    listed = subprocess.run(
        ["docker", "ps", "--all", "--quiet", "--filter", f"label={LABEL}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(listed.stdout.split())
