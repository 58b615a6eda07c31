"""Real kills: whatever ends the owner, nothing of its run is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekit_sim.lifeline import Lifeline, containers_of, processes_of

SIMULATORS = str(Path(__file__).parents[2] / "simulators")

OWNER = """
import os, signal, subprocess, sys, time
from edgekit_sim.lifeline import Lifeline
# a shell starts what it runs in the background with SIGINT ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
with Lifeline("outer") as outer:
    with Lifeline("inner") as inner:
        for line in (outer, inner):
            subprocess.Popen(
                ["sh", "-c", "trap '' TERM INT HUP; sleep 1000 & while :; do sleep 1000; done"],
                env={**os.environ, **line.environment},
                start_new_session=line is inner,
            )
        print(outer.run, flush=True)
        time.sleep(1000)
"""


def wait_for(count: int, run: str) -> None:
    deadline = time.monotonic() + 20
    while len(list(processes_of(run))) != count:
        assert time.monotonic() < deadline, list(processes_of(run))
        time.sleep(0.05)


@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_its_owner(number: signal.Signals, group: bool) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        env={**os.environ, "PYTHONPATH": SIMULATORS},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    assert owner.stdout is not None
    run = owner.stdout.readline().strip()
    try:
        wait_for(6, run)  # two shells with two sleeps each
        (os.killpg if group else os.kill)(owner.pid, number)
        owner.wait(40)
        wait_for(0, run)
    finally:
        owner.kill()
        owner.stdout.close()


def test_leaving_ends_the_run_and_nothing_else() -> None:
    command = ["sleep", "1000"]
    with Lifeline("other") as other:
        with Lifeline("run") as line:
            mine = subprocess.Popen(command, env={**os.environ, **line.environment})
            theirs = subprocess.Popen(command, env={**os.environ, **other.environment})
            # a name that only begins the same is another run
            near = {**os.environ, "EDGEKIT_RUN": f"{line.run}x"}
            third = subprocess.Popen(command, env=near)
        assert mine.wait(5) == -signal.SIGKILL
        assert (theirs.poll(), third.poll()) == (None, None)
        third.kill()
        third.wait()
    assert theirs.wait(5) == -signal.SIGKILL


CONTAINER_OWNER = """
import sys, time
import docker
from edgekit_sim.lifeline import Lifeline
with Lifeline("boxes", containers=True) as line:
    client = docker.from_env()
    client.containers.run(sys.argv[1], labels=line.labels, detach=True)
    print(line.run, flush=True)
    time.sleep(1000)
"""


@pytest.mark.needs("docker")
def test_containers_end_with_their_owner(static_image: str) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CONTAINER_OWNER, static_image],
        env={**os.environ, "PYTHONPATH": SIMULATORS},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    run = owner.stdout.readline().strip()
    assert [container.status for container in containers_of(run)] == ["running"]
    owner.kill()
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + 40
    while containers_of(run):
        assert time.monotonic() < deadline
        time.sleep(0.1)
