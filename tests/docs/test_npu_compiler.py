import re
from pathlib import Path

from edgekit_fpga.boards import load_board
from edgekit_fpga.compiler import passes_for
from edgekit_fpga.compiler.operators import OPERATORS
from tests.edgekit_fpga.random_graphs import FEATURES

TEXT = (Path(__file__).parents[2] / "docs" / "npu-compiler.md").read_text()


def section(title):
    return TEXT.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_passes_are_those_of_the_compiler_in_order():
    told = re.findall(r"^\| `([a-z-]+)` \|", section("Passes"), re.MULTILINE)
    assert told == ["import", *(name for name, _ in passes_for(load_board("ecp5-85f")))]


def test_the_operators_are_those_that_are_compiled_and_drawn_at_random():
    rows = re.findall(r"^\| ([A-Z][A-Za-z, ]+) \|", section("What it takes"), re.MULTILINE)
    told = {name for row in rows[1:] for name in row.split(", ")}
    assert told <= set(OPERATORS)
    drawn = {name for name in FEATURES if name in OPERATORS}
    assert drawn - told == {"Softmax"}
