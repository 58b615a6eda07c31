import itertools
import json
import random
import subprocess
import sys

import numpy as np
import pytest

from edgekit_fpga.boards import board_names, load_part
from edgekit_fpga.synthesis.sites import DIES

floors = pytest.importorskip("edgekit_fpga.synthesis.floorplan", reason="scipy is not here")
Site, floorplan, read_design, springs = (
    floors.Site,
    floors.floorplan,
    floors.read_design,
    floors.springs,
)
ROW = {"M": [Site(10 * x, 5, f"X{10 * x}/Y5/M") for x in range(12)]}


def cell(kind, *bits):
    """A cell whose ports are on nets of these numbers; text is a constant."""
    return {"type": kind, "connections": {"A": list(bits), "CLK": [1]}, "attributes": {}}


def chain(macros, between=3):
    """Macros m0, m1, ... one after the other, with cells between them, in any order."""
    cells, net = {}, 2
    for index in range(macros):
        cells[f"m{index}"] = cell("M", net, "0")
        if index + 1 < macros:
            for step in range(between):
                cells[f"l{index}.{step}"] = cell("L", net, net + 1)
                net += 1
            cells[f"m{index}"]["connections"]["B"] = [net - between]
            cells[f"l{index}.{between - 1}"]["connections"]["Z"] = [net]
    names = list(cells)
    random.Random(3).shuffle(names)
    return {name: cells[name] for name in names}


def test_cells_between_two_macros_come_to_rest_in_equal_steps():
    design = read_design(chain(2), ("M",))
    held = springs(design, np.ones(len(design.starts)))
    names = list(chain(2))
    macros = np.array([(0.0, 0.0) if names[i] == "m0" else (8.0, 4.0) for i in design.macros])
    places = dict(zip(names, held.rest(design, macros).round(3).tolist(), strict=True))
    assert [places[f"l0.{step}"] for step in range(3)] == [[2, 1], [4, 2], [6, 3]]
    # four springs in a row pull like one of a fourth of their strength
    assert held.energy.round(3).tolist() == [[0.25, -0.25], [-0.25, 0.25]]


def test_a_chain_of_macros_lies_along_the_row():
    chosen = floorplan(chain(12), ROW)
    order = [int(chosen[f"m{index}"][1:].split("/")[0]) for index in range(12)]
    assert order in (sorted(order), sorted(order, reverse=True))


def test_neighbours_take_neighbouring_sites_where_some_stay_free():
    chosen = floorplan(chain(4), ROW)
    order = [int(chosen[f"m{index}"][1:].split("/")[0]) for index in range(4)]
    steps = {abs(b - a) for a, b in itertools.pairwise(order)}
    assert steps == {10}


def test_the_same_netlist_gets_the_same_sites():
    assert floorplan(chain(9), ROW) == floorplan(chain(9), ROW)


def test_clocks_constants_and_nets_of_one_cell_hold_nothing_together():
    cells = {"m": cell("M", 2, "0"), "n": cell("M", 3, "0"), "l": cell("L", 3, "1")}
    design = read_design(cells, ("M",))
    assert design.starts.tolist() == [0]
    assert sorted(design.pins.tolist()) == [1, 2]


def test_a_wide_memory_takes_the_site_of_a_memory():
    sites = {"DP16KD": [Site(4, 22, "X4/Y22/EBR0"), Site(6, 22, "X6/Y22/EBR1")]}
    cells = {"a": cell("DP16KD", 2), "b": cell("PDPW16KD", 2)}
    assert sorted(floorplan(cells, sites).values()) == ["X4/Y22/EBR0", "X6/Y22/EBR1"]


def test_a_netlist_without_macros_stays_as_it_is():
    assert floorplan({"l": cell("L", 2), "k": cell("L", 2)}, ROW) == {}


def test_the_program_says_in_a_line_what_does_not_fit(tmp_path):
    top = {"attributes": {"top": "1"}, "cells": chain(4)}
    (tmp_path / "netlist.json").write_text(json.dumps({"modules": {"top": top}}))
    (tmp_path / "sites.json").write_text(json.dumps({"M": [[1, 1, "X1/Y1/M"]]}))
    files = ["netlist.json", "sites.json", "floorplan.json"]
    done = subprocess.run(
        [sys.executable, floors.__file__, *files], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (1, "ERROR: 4 M, and sites for 1\n")
    assert not (tmp_path / "floorplan.json").exists()


def test_the_program_puts_every_macros_site_into_the_netlist(tmp_path):
    top = {"attributes": {"top": "1"}, "cells": chain(4)}
    (tmp_path / "netlist.json").write_text(json.dumps({"modules": {"top": top}}))
    sites = {"M": [[site.x, site.y, site.bel] for site in ROW["M"]]}
    (tmp_path / "sites.json").write_text(json.dumps(sites))
    floors.main(*(tmp_path / name for name in ("netlist.json", "sites.json", "floorplan.json")))
    made = json.loads((tmp_path / "floorplan.json").read_text())["modules"]["top"]["cells"]
    assert {
        name: part["attributes"]["BEL"] for name, part in made.items() if part["type"] == "M"
    } == floorplan(chain(4), ROW)


@pytest.mark.parametrize("name", ["ecp5-25f", "ecp5-85f"])
def test_a_die_has_as_many_sites_as_its_part_says(name):
    assert name in board_names()
    part = load_part(name)
    counts = {kind: len(listed) for kind, listed in DIES[part.device].sites().items()}
    assert counts == {kind: part.resources[kind] for kind in ("MULT18X18D", "DP16KD")}
