"""Registering the same name from several processes at once, the first of them all."""

import os
import subprocess
import sys
from pathlib import Path

from edgekit.registry import Registry
from edgekit.workspace import Workspace

# waits until all are ready, then opens the workspace and registers the file some times
_REGISTER = """
import sys
from pathlib import Path
from edgekit.registry import Registry
from edgekit.workspace import Workspace

model, times = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
registry = Registry.open(Workspace.find())
for _ in range(times):
    print(registry.register(model, "digits").version, flush=True)
"""


def test_every_process_gets_versions_of_its_own(workspace: Workspace, digits: Path) -> None:
    processes, times = 8, 5
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _REGISTER, digits, str(times)],
            env={**os.environ, "EDGEKIT_WORKSPACE": str(workspace.folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    given = [int(line) for process in running for line in process.communicate()[0].split()]

    assert [process.returncode for process in running] == [0] * processes
    assert sorted(given) == list(range(1, processes * times + 1))
    assert len(Registry.open(workspace).models()) == processes * times
