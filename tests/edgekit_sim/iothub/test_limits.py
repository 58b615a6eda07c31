"""How many connections fit, and what happens beyond."""

import contextlib
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from edgekit_sim.iothub import HubHandle, start_hub
from edgekit_sim.iothub.handle import python_path
from tests.edgekit_sim.iothub.mqtt_client import Raw, hello

RAISE = """
import logging, resource
from edgekit_sim.iothub.listeners import raise_descriptor_limit

resource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard}))
logging.basicConfig()
room = raise_descriptor_limit()
print(room, *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def raised(hard: int) -> tuple[str, list[str]]:
    program = [sys.executable, "-c", RAISE.format(hard=hard)]
    environment = {**os.environ, "PYTHONPATH": python_path()}
    ended = subprocess.run(program, capture_output=True, text=True, check=True, env=environment)
    return ended.stdout.strip(), ended.stderr.splitlines()


def test_the_limit_of_descriptors_is_raised_as_far_as_allowed() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    told, _ = raised(most)
    assert told == f"{most - 100} {most} {most}"


def test_one_line_says_that_few_connections_fit() -> None:
    told, (line,) = raised(300)
    assert told == "200 300 300"
    assert "200 connections" in line


def descriptors(hub: HubHandle) -> int:
    return len(list(Path(f"/proc/{hub.pid}/fd").iterdir()))


def test_a_hub_without_descriptors_serves_those_it_has() -> None:
    with start_hub() as hub:
        first = Raw(hub)
        first.say(hello(hub, "first"))
        assert first.hear(4)[3:] == b"\0"
        greeting = hello(hub, "second")
        full = descriptors(hub) + 10
        resource.prlimit(hub.pid, resource.RLIMIT_NOFILE, (full, full))
        others: list[Raw] = []
        with contextlib.suppress(OSError):
            while len(others) < 40:
                others.append(Raw(hub))
        assert 0 < len(others) < 40
        first.say(b"\xc0\x00")
        assert first.hear(2) == b"\xd0\x00"
        for one in others:
            one.close()
        end = time.monotonic() + 60
        while descriptors(hub) >= full:
            assert time.monotonic() < end, "connections stay"
            time.sleep(0.05)
        second = Raw(hub)
        second.say(greeting)
        assert second.hear(4)[3:] == b"\0"
        first.close()
        second.close()
        assert "Traceback" not in (hub.state_dir / "hub.log").read_text()
