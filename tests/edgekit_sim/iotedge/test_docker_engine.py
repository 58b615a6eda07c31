"""Modules as real containers: started as createOptions say, watched, ended, never left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit_sim.iotedge.docker_engine import DockerEngine, docker_client
from edgekit_sim.iotedge.engine import Launch, State
from edgekit_sim.iotedge.errors import ModuleFailed
from edgekit_sim.lifeline import Lifeline, containers_of

pytestmark = pytest.mark.needs("docker")


@pytest.fixture
def engine(static_image: str) -> Iterator[tuple[DockerEngine, str]]:
    """An engine, and the name of its run; ended before its image goes."""
    assert static_image
    client = docker_client()
    assert client is not None
    with Lifeline("test", containers=True) as lifeline:
        engine = DockerEngine(client, "device", lifeline)
        yield engine, lifeline.run
        engine.close()


@pytest.fixture
def launch(static_image: str, tmp_path: Path) -> Launch:
    options = {
        "StopSignal": "SIGKILL",  # the program waits for nothing else
        "Env": ["A=from options", "B=kept"],
        "Labels": {"own": "yes"},
        "HostConfig": {
            "Binds": ["/srv/data:/data:ro", "/srv/state:/var/lib/edgekit"],
            "PortBindings": {"80/tcp": [{"HostPort": "80"}]},
            "Memory": 64 << 20,
        },
    }
    return Launch(
        "wait",
        static_image,
        {"A": "from the deployment"},
        options,
        state=tmp_path / "state",
        workload=tmp_path / "workload",
        files=tmp_path / "files",
    )


def test_a_container_is_what_the_deployment_says(
    engine: tuple[DockerEngine, str], launch: Launch, tmp_path: Path
) -> None:
    docker, run = engine
    docker.start(launch)
    assert docker.state("wait") == State(True)
    (container,) = containers_of(run)
    found = container.attrs
    assert {"A=from the deployment", "B=kept"} <= set(found["Config"]["Env"])
    assert found["Config"]["Labels"]["own"] == "yes"
    host = found["HostConfig"]
    assert (host["NetworkMode"], host["Memory"]) == ("host", 64 << 20)
    assert not host["PortBindings"]
    assert sorted(host["Binds"]) == sorted(
        [
            f"{tmp_path}/files/srv/data:/data:ro",
            f"{tmp_path}/files/srv/state:/var/lib/edgekit:rw",
            f"{tmp_path}/workload:/var/run/iotedge:rw",
        ]
    )


def test_its_end_is_seen(engine: tuple[DockerEngine, str], launch: Launch) -> None:
    docker, run = engine
    docker.start(launch)
    (container,) = containers_of(run)
    container.kill("KILL")
    until(lambda: docker.state("wait") == State(False, 128 + signal.SIGKILL))
    container.remove()
    assert docker.state("wait") is None
    docker.start(launch)
    docker.start(launch)
    assert [c.status for c in containers_of(run)] == ["running"]
    docker.stop("wait")
    assert (docker.state("wait"), containers_of(run)) == (None, [])


def test_what_cannot_start_says_why(engine: tuple[DockerEngine, str], launch: Launch) -> None:
    docker, _ = engine
    with pytest.raises(ModuleFailed, match="nothing"):
        docker.start(replace(launch, create_options={"Entrypoint": ["/nothing"]}))
    with pytest.raises(ModuleFailed, match="cannot be pulled"):
        docker.pull("127.0.0.1:1/none:1")


OWNER = """
import sys, time
from pathlib import Path
from edgekit_sim.iotedge.docker_engine import DockerEngine, docker_client
from edgekit_sim.iotedge.engine import Launch
from edgekit_sim.lifeline import Lifeline
here = Path(sys.argv[2])
with Lifeline("owner", containers=True) as line:
    engine = DockerEngine(docker_client(), "device", line)
    engine.start(Launch("wait", sys.argv[1], {}, {}, here / "s", here / "w", here / "f"))
    print(line.run, flush=True)
    time.sleep(1000)
"""


def test_killing_the_whole_group_leaves_no_container(static_image: str, tmp_path: Path) -> None:
    paths = os.pathsep.join(path for path in sys.path if path)
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, static_image, tmp_path],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )
    assert owner.stdout is not None
    run = owner.stdout.readline().strip()
    assert len(containers_of(run)) == 1
    os.killpg(owner.pid, signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    until(lambda: not containers_of(run))


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
