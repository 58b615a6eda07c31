"""What Yosys reads is what Verilator reads: its netlist, simulated, computes the same."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgekit_fpga import rtl
from edgekit_fpga.boards import COMPACT, load_board
from edgekit_fpga.driver.commanded import CommandedNpu
from edgekit_fpga.driver.npu import Npu
from edgekit_fpga.driver.simulated import SimulatedLine, SimulatedPort
from edgekit_fpga.interpreter import Machine
from edgekit_fpga.rtl import parameters
from edgekit_fpga.simulate.verilator import build
from edgekit_fpga.synthesis.tools import YOSYS
from tests.edgekit_fpga.rtl.random_layers import KINDS, Generator
from tests.edgekit_fpga.rtl.test_axi import BOARD

# the time is for building simulators on a machine that has other things to do
pytestmark = [pytest.mark.needs("verilator"), pytest.mark.needs("synthesis")]
pytestmark += [pytest.mark.timeout(900)]
SIMULATE = Path(rtl.__file__).parents[1] / "simulate"
COMPACT_BOARD = load_board("ice40-up5k")


def netlist(top, board, bench, folder):
    """The simulator of what Yosys has read of a module."""
    sources = rtl.sources()
    for name, text in sources.items():
        (folder / name).write_text(text)
    chosen = " ".join(f"-set {name} {value}" for name, value in parameters(board).items())
    script = (
        f"read_verilog -sv {' '.join(sources)}; chparam {chosen} {top}; "
        f"hierarchy -check -top {top}; proc; opt_clean; write_verilog -noattr netlist.v"
    )
    subprocess.run([YOSYS.path, "-q", "-p", script], cwd=folder, check=True)
    text = (folder / "netlist.v").read_text()
    return build(top, {"netlist.v": text}, (SIMULATE / bench).read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return netlist("npu_axi", BOARD, "port_bench.cpp", tmp_path_factory.mktemp("npu"))


@pytest.fixture(scope="module")
def compact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compact")
    return netlist(COMPACT, COMPACT_BOARD, "npu_bench.cpp", folder)


def check(npu, board, kind):
    for seed in range(4):
        generator = Generator(board, seed)
        program = generator.program([kind] * 3)
        machine = Machine(program, board.array, board.memory.activation_granules, exact=True)
        expected = machine.run(generator.inputs, tuple(generator.outputs))
        actual, _ = npu.run(program, board, generator.inputs, tuple(generator.outputs))
        for name, value in expected.items():
            assert np.array_equal(actual[name], value), (seed, name)
    npu.close()


@pytest.mark.parametrize("kind", KINDS)
def test_the_netlist_computes_what_the_interpreter_does(whole, kind):
    check(Npu(SimulatedPort(whole)), BOARD, kind)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "DIAGONAL"])
def test_the_compact_cores_netlist_computes_what_the_interpreter_does(compact, kind):
    check(CommandedNpu(SimulatedLine(compact)), COMPACT_BOARD, kind)
