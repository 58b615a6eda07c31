"""A process killed at any point leaves no row without its file and no file that is not found."""

import os
import random
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from edgekit.registry import Query, Registry
from edgekit.registry.database import Database
from edgekit.workspace import Workspace
from tests.edgekit.registry.test_files import SCORE, save_apart

# `make soak` asks for two hundred
POINTS = int(os.environ.get("EDGEKIT_TEST_KILLS", "30"))

# Forks a child for each seed on its standard input. The child opens the workspace, registers,
# deletes, restores and collects, and kills itself before or after the N-th call that may change
# something outside the process. What it was told is done, it writes down.
_PROGRAM = """
import os, random, signal, sys
from datetime import timedelta
from pathlib import Path
from edgekit.registry import ArtefactQuery, Query, Registry
from edgekit.registry import migrations, onnxfile
from edgekit.workspace import Workspace

model, apart, scratch = map(Path, sys.argv[1:4])
CALLS = {"execute", "commit", "rollback", "replace", "rename", "unlink", "remove", "fsync",
         "open", "write", "close", "chmod", "mkdir"}

def called(frame, kind, function):
    if kind.startswith("c_"):
        return getattr(function, "__name__", "")
    # psycopg is written in Python; the driver of SQLite is not
    return frame.f_code.co_name if "psycopg" in frame.f_code.co_filename else ""

def killed_at(point, event):
    left = point
    def count(frame, kind, function):
        nonlocal left
        if kind.removeprefix("c_") == event and called(frame, kind, function) in CALLS:
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(count)

def note(line):
    with (scratch / "done").open("a") as file:
        file.write(line + "\\n")

def work(seed):
    draw = random.Random(seed)
    killed_at(draw.randint(1, 200), draw.choice(["call", "return"]))
    registry = Registry.open(Workspace.find())
    for _ in range(4):
        versions = registry.models()
        action = draw.choice(["register", "register", "package", "delete", "restore", "collect"])
        if action == "register":
            kind = draw.random()
            if kind < 0.4:
                ref = registry.register(model, "digits").ref
            elif kind < 0.7:
                weights = apart.with_name("w.bin")
                weights.write_bytes(draw.randbytes(weights.stat().st_size))
                score = apart.with_name("score.py")
                ref = registry.register(apart, "apart", score=score).ref
            else:
                file = scratch / "other"
                file.write_bytes(draw.randbytes(50_000))
                ref = registry.register(file, "other", framework="x").ref
            note(f"registered {ref}")
        elif action == "package" and versions:
            file = scratch / "package"
            file.write_bytes(draw.randbytes(50_000))
            ref = draw.choice(versions).ref
            graph = registry.record_graph(file, model=ref, board="b", cycles=1, proof={})
            note(f"packaged {graph.digest}")
        elif action == "delete" and versions:
            ref = draw.choice(versions).ref
            if not registry.graphs(ArtefactQuery(model=ref)):
                note(f"deleting {ref}")
                registry.delete(ref)
        elif action == "restore":
            for version in registry.models(Query(deleted=True))[:1]:
                registry.restore(version.ref)
        elif action == "collect":
            registry.collect_garbage(grace=timedelta(0))
    sys.setprofile(None)

for line in sys.stdin:
    child = os.fork()
    if not child:
        work(int(line))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status), flush=True)
"""


@pytest.mark.timeout(600)
def test_what_is_killed_at_any_point_leaves_everything_whole(
    workspace: Workspace, tmp_path: Path, digits: Path
) -> None:
    seed = int(os.environ.get("EDGEKIT_TEST_SEED", random.SystemRandom().randrange(2**31)))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    apart = save_apart(scratch)
    (scratch / "score.py").write_text(SCORE)
    killer = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _PROGRAM, digits, apart, scratch],
        env={**os.environ, "EDGEKIT_WORKSPACE": str(workspace.folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    killed = 0
    with killer:
        assert killer.stdin is not None
        assert killer.stdout is not None
        for point in range(seed, seed + POINTS):
            killer.stdin.write(f"{point}\n")
            killer.stdin.flush()
            outcome = int(killer.stdout.readline())
            assert outcome in (0, signal.SIGKILL), f"EDGEKIT_TEST_SEED={point}"
            killed += outcome == signal.SIGKILL
            hold(workspace, scratch / "done")
        killer.stdin.close()

    sys.stdout.write(f"killed {killed} times of {POINTS}, from seed {seed}: whole every time\n")
    assert killed > POINTS / 2


def hold(workspace: Workspace, done: Path) -> None:
    """What was said to be done is there, every row has its whole file, every file is found."""
    registry = Registry.open(workspace)
    versions = registry.models() + registry.models(Query(deleted=True))
    named = {version.digest for version in versions}
    named |= {file.digest for version in versions for file in version.files}
    for digest in named:
        assert registry.stored_file(digest).is_file()
    for graph in registry.graphs():
        assert registry.graph_file(graph).is_file()

    said = [line.split() for line in done.read_text().splitlines()] if done.exists() else []
    deleting = {ref for verb, ref in said if verb == "deleting"}
    there = {str(version.ref) for version in versions}
    assert {ref for verb, ref in said if verb == "registered"} - deleting <= there
    packages = {graph.digest for graph in registry.graphs()}
    assert {digest for verb, digest in said if verb == "packaged"} <= packages
    assert len(there) == len(versions)

    registry.collect_garbage(deleted_for=timedelta(days=1), grace=timedelta(0))
    stored = (workspace.folder / "blobs").rglob("*")
    assert {f"sha256:{path.name}" for path in stored if path.is_file()} == named | packages


def test_a_killed_migration_is_finished_by_the_next(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'registry.sqlite3'}"
    program = f"""
import os, signal
from edgekit.registry import database, migrations
upgrade = migrations.upgrade
def killed(connection, revision):
    upgrade(connection, revision)
    os.kill(os.getpid(), signal.SIGKILL)
migrations.upgrade = killed
database.Database({url!r})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert done.returncode == -signal.SIGKILL

    with Database(url).reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM models").scalar() == 0
