"""The image as a user builds it: pushed, pulled by Docker, scoring a digit over HTTP."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.quantize.report import predictions
from edgekit_sim import ociregistry
from edgekit_sim.demo.digits import load
from edgekit_sim.demo.traffic import infer_request, prediction

SCORER_START_SECONDS = 60


def _edgekit(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "edgekit", *arguments, "--json"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture
def pushed(environment: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The reference by digest of digits:1 in a registry of this machine."""
    with ociregistry.Registry(tmp_path / "registry") as registry:
        _edgekit(environment, "model", "register", str(load().model), "--name", "digits")
        reference = f"{registry.address}/digits:1"
        built = _edgekit(environment, "image", "build", "digits:1", "--push", reference)
        yield f"{registry.address}/digits@{built['digest']}"


@pytest.fixture
def scorer(pushed: str) -> Iterator[str]:
    """The URL of a container that runs the pushed image as it is."""
    name = f"edgekit-test-{time.time_ns()}"
    start = ["docker", "run", "--detach", "--rm", "--name", name, "--publish", "127.0.0.1::8080"]
    subprocess.run([*start, pushed], check=True, capture_output=True)
    try:
        port = subprocess.run(
            ["docker", "port", name, "8080/tcp"], check=True, capture_output=True, text=True
        )
        yield f"http://{port.stdout.strip()}"
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True)


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@pytest.mark.needs("docker")
@pytest.mark.needs("debian-mirror")
@pytest.mark.timeout(400)
def test_docker_run_of_the_pushed_image_scores_a_digit(scorer: str) -> None:
    digits = load()
    deadline = time.monotonic() + SCORER_START_SECONDS
    while not _ready(scorer) and time.monotonic() < deadline:
        time.sleep(0.1)
    request = urllib.request.Request(
        f"{scorer}/v2/models/digits/infer", infer_request("one", digits.images[0])
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        response = json.load(answer)
    first = {"image": np.asarray(digits.images[:1])}
    (expected,) = predictions(digits.model.read_bytes(), first)
    assert (response["id"], prediction(response)) == ("one", expected)
