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


@pytest.mark.parametrize("stage", ["build the image", "roll out", "cut"])
@pytest.mark.parametrize("whole_group", [False, True])
@pytest.mark.timeout(300)
def test_a_killed_demo_leaves_nothing(
    stage: str, whole_group: bool, environment: dict[str, str], tmp_path: Path
) -> None:
    marker = f"{tmp_path.name}-{whole_group}"
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [*DEMO, "--engine", "process"],
            stdout=out,
            stderr=out,
            env={**environment, "EDGEKIT_TEST_MARK": marker},
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
    assert _gone(marker) == []
