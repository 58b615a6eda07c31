"""What Yosys reads is what Verilator reads: its netlist, simulated, computes the same."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgekit_fpga import rtl
from edgekit_fpga.driver.npu import Npu
from edgekit_fpga.driver.simulated import SimulatedPort
from edgekit_fpga.interpreter import Machine
from edgekit_fpga.simulate.npu import parameters
from edgekit_fpga.simulate.verilator import build
from edgekit_fpga.synthesis.tools import YOSYS
from tests.edgekit_fpga.rtl.random_layers import KINDS, Generator
from tests.edgekit_fpga.rtl.test_axi import BOARD

# the time is for building simulators on a machine that has other things to do
pytestmark = [pytest.mark.needs("verilator"), pytest.mark.needs("synthesis")]
pytestmark += [pytest.mark.timeout(900)]
BENCH = Path(rtl.__file__).parents[1] / "simulate" / "port_bench.cpp"


@pytest.fixture(scope="module")
def netlist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("netlist")
    sources = rtl.sources()
    for name, text in sources.items():
        (folder / name).write_text(text)
    chosen = " ".join(f"-set {name} {value}" for name, value in parameters(BOARD).items())
    script = (
        f"read_verilog -sv {' '.join(sources)}; chparam {chosen} npu_axi; "
        "hierarchy -check -top npu_axi; proc; opt_clean; write_verilog -noattr netlist.v"
    )
    subprocess.run([YOSYS.path, "-q", "-p", script], cwd=folder, check=True)
    return build("npu_axi", {"netlist.v": (folder / "netlist.v").read_text()}, BENCH.read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_the_netlist_computes_what_the_interpreter_does(netlist, kind):
    npu = Npu(SimulatedPort(netlist))
    for seed in range(3):
        generator = Generator(BOARD, seed)
        program = generator.program([kind] * 4)
        machine = Machine(program, BOARD.array, BOARD.memory.activation_granules, exact=True)
        expected = machine.run(generator.inputs, tuple(generator.outputs))
        actual, _ = npu.run(program, BOARD, generator.inputs, tuple(generator.outputs))
        for name, value in expected.items():
            assert np.array_equal(actual[name], value), (seed, name)
    npu.close()
