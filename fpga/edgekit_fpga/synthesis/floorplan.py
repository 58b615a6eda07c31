"""Where a design's multipliers and memories go, before nextpnr places everything else.

The NPU takes nearly all of these, and they lie in a few rows across the whole chip. nextpnr finds
good places for them as long as they may lie anywhere, and loses most of that when it moves each to
a site. So the sites are chosen here, with nothing but sites to choose from:

1. Springs hold a net's cells together, one between each two of them, with strength 1 / (cells - 1).
2. Where the macros (multipliers and memories) stand, all other cells come to rest where the springs
   hold least energy, which is then x'Sx for the macros' coordinates x: S is the Schur complement of
   the springs' Laplacian. So moves of macros are weighed with all that would follow them.
3. Macros change sites, or go to free ones, as long as that pays, at first also where it does not
   (threshold accepting, Dueck and Scheuer 1990, thresholds drawn at random).
4. Springs are weakened where nets are long, so that the energy comes to be like the length of the
   wires (as in GORDIAN-L, Sigl, Doll and Johannes 1991), and all is done once more.

It is run as a program on Yosys' netlist and writes the same with a `BEL` attribute on each macro:

    python floorplan.py netlist.json sites.json floorplan.json

`sites.json` has the sites by kind of cell: {"DP16KD": [[x, y, "X4/Y22/EBR0"], ...], ...}. It reads
no other file of this package, so that a build plan holds all that decides where things go.
"""

import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ALIKE = {"PDPW16KD": "DP16KD"}  # kinds of cell that take another's sites
CLOCKS = {"CLK", "CLKA", "CLKB", "WCK"}
LARGEST_NET = 64  # cells; what is larger (clock, reset, enables) is everywhere anyway
ROUNDS = 2
# tries for each macro in the first round, and in the ones after it, which begin from its sites
TRIES = (8_500, 2_800)
# the first threshold of each, in mean energies of a spring's end between neighbouring sites
HEAT = (400.0, 10.0)
NEAR = 4.0  # sites: how far most moves go, once things have found their region
SHORT = 4.0  # tiles: nets shorter than this are as strong as if they were that long
SCALE = 1 << 24  # energies are whole numbers, so that every machine decides alike
SWEEPS = 150
COLUMNS = 64  # macros whose influence is worked out at a time


@dataclass(frozen=True)
class Site:
    """A place for a macro: column, row and nextpnr's name."""

    x: int
    y: int
    bel: str


@dataclass(frozen=True)
class Design:
    """A netlist as springs see it.

    Attributes:
        cells: how many cells there are.
        macros: indices of the cells with sites, kind after kind.
        kinds: of each macro, the kind.
        pins: (pins,) cell of every pin, net after net; a cell has one pin in a net.
        starts: (nets,) where each net's pins begin.
    """

    cells: int
    macros: Integers
    kinds: tuple[str, ...]
    pins: Integers
    starts: Integers

    @property
    def degrees(self) -> Integers:
        """Cells of each net."""
        return np.diff(self.starts, append=len(self.pins))

    def lengths(self, x: Floats) -> Floats:
        """Half the perimeter of each net, for the cells' places x (cells, 2)."""
        at = x[self.pins]
        spans = np.maximum.reduceat(at, self.starts) - np.minimum.reduceat(at, self.starts)
        lengths: Floats = spans.sum(axis=1)
        return lengths


def read_design(cells: Mapping[str, Any], kinds: Sequence[str]) -> Design:
    """The springs of a module's cells, as Yosys' JSON has them, in its order."""
    order = {name: index for index, name in enumerate(cells)}
    nets: dict[int, set[int]] = {}
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            if port not in CLOCKS:
                for bit in bits:
                    if isinstance(bit, int):
                        nets.setdefault(bit, set()).add(order[name])
    joined = [sorted(net) for net in nets.values() if 2 <= len(net) <= LARGEST_NET]
    taken = {name: ALIKE.get(cell["type"], cell["type"]) for name, cell in cells.items()}
    macros = [(order[name], kind) for kind in kinds for name in cells if taken[name] == kind]
    sizes = [len(net) for net in joined]
    return Design(
        len(cells),
        np.array([index for index, _ in macros], np.int64),
        tuple(kind for _, kind in macros),
        np.array([cell for net in joined for cell in net], np.int64),
        np.cumsum([0, *sizes[:-1]]),
    )


@dataclass(frozen=True)
class Springs:
    """The springs' energy for the macros alone.

    Attributes:
        energy: (macros, macros) S, so that x'Sx is the energy.
        followers: (cells that are no macros, macros): how far each moves with each macro.
        free: the indices of those cells.
    """

    energy: Floats
    followers: Floats
    free: Integers

    def rest(self, design: Design, macros: Floats) -> Floats:
        """Where all cells (cells, 2) come to rest with the macros at (macros, 2)."""
        places = np.empty((design.cells, 2))
        places[design.macros] = macros
        places[self.free] = self.followers @ macros
        return places


def springs(design: Design, strength: Floats) -> Springs:
    """Eliminate all cells that are no macros, by conjugate gradients; `strength` is a net's."""
    degrees = design.degrees
    nets = np.repeat(np.arange(len(degrees)), degrees)
    joins = csr_matrix(
        (np.ones(len(nets)), (nets, design.pins)), shape=(len(degrees), design.cells)
    )
    pulls = (joins.T @ diags(strength / (degrees - 1)) @ joins).tocsr()
    pulls.setdiag(0)
    ends = np.asarray(pulls.sum(axis=1)).ravel() + 1e-5  # (a cell on no net has none)
    laplacian = (diags(ends) - pulls).tocsr()
    free = np.setdiff1d(np.arange(design.cells), design.macros)
    among, across = laplacian[free][:, free], laplacian[free][:, design.macros].toarray()
    followers = np.zeros(across.shape)
    for start in range(0, across.shape[1], COLUMNS):
        part = slice(start, start + COLUMNS)
        followers[:, part] = -_solve(among, across[:, part])
    energy = laplacian[design.macros][:, design.macros].toarray() + across.T @ followers
    return Springs((energy + energy.T) / 2, followers, free)


def _solve(matrix: Any, right: Floats) -> Floats:
    """The columns y of matrix @ y = right, conjugate gradients with the diagonal before them."""
    inverse = 1 / matrix.diagonal()[:, None]
    found, rest = np.zeros_like(right), right.copy()
    direction = inverse * rest
    size = (rest * direction).sum(axis=0)
    for _ in range(SWEEPS):
        image = matrix @ direction
        step = size / np.maximum((direction * image).sum(axis=0), 1e-30)
        found += step * direction
        rest -= step * image
        ahead = inverse * rest
        after = (rest * ahead).sum(axis=0)
        direction = ahead + after / np.maximum(size, 1e-30) * direction
        size = after
    return found


def exchange(
    energy: Floats, sites: Sequence[Site], kinds: Sequence[range], chosen: list[int],
    tries: int, heat: float, seed: int,
) -> None:  # fmt: skip
    """Let macros change sites until that pays no more.

    Args:
        energy: (macros, macros) S.
        sites: all of them.
        kinds: of each macro, the sites it may have.
        chosen: of each macro, its site; changed in place.
        tries: how many changes are tried.
        heat: the first threshold, in mean energies of a macro.
        seed: where the random numbers start.
    """
    # row by row as lists of whole numbers: single ones of these are what a try reads
    whole = np.rint(energy * (SCALE / np.abs(energy).max())).astype(np.int64)
    own, rows = whole.diagonal().tolist(), [row.tolist() for row in whole]
    places = np.array([(site.x, site.y) for site in sites], np.int64)
    force = whole @ places[chosen]
    holder = [-1] * len(sites)
    for macro, site in enumerate(chosen):
        holder[site] = macro
    at = [(site.x, site.y) for site in sites]
    hottest = heat * float(np.abs(whole).sum()) / len(own)
    draw = random.Random(seed)  # noqa: S311  (no secret)
    for count in range(tries):
        left = 1 - count / tries
        macro = int(draw.random() * len(own))
        allowed, old = kinds[macro], chosen[macro]
        if left < 0.7 and draw.random() < 0.7:
            new = old + int(draw.gauss(0, NEAR))
        else:
            new = allowed.start + int(draw.random() * len(allowed))
        if new == old or new not in allowed:
            continue
        dx, dy = at[new][0] - at[old][0], at[new][1] - at[old][1]
        square = dx * dx + dy * dy
        change = 2 * (int(force[macro, 0]) * dx + int(force[macro, 1]) * dy) + own[macro] * square
        other = holder[new]
        if other >= 0:
            change -= 2 * (int(force[other, 0]) * dx + int(force[other, 1]) * dy)
            change += (own[other] - 2 * rows[macro][other]) * square
        if change < hottest * left**3 * draw.random():
            chosen[macro], holder[new], holder[old] = new, macro, other
            moved = whole[macro] if other < 0 else whole[macro] - whole[other]
            force[:, 0] += dx * moved
            force[:, 1] += dy * moved
            if other >= 0:
                chosen[other] = old


def floorplan(
    cells: Mapping[str, Any], sites: Mapping[str, Sequence[Site]], seed: int = 1
) -> dict[str, str]:
    """The site of every cell that has one: name -> nextpnr's name of it.

    Raises:
        ValueError: more cells of a kind than sites.
    """
    design = read_design(cells, tuple(sites))
    every = [site for kind in sites for site in sites[kind]]
    first, allowed, chosen = 0, {}, []
    for kind in sites:
        count = design.kinds.count(kind)
        if count > len(sites[kind]):
            raise ValueError(f"{count} {kind}, and sites for {len(sites[kind])}")
        allowed[kind] = range(first, first + len(sites[kind]))
        chosen += random.Random(seed).sample(allowed[kind], count)  # noqa: S311
        first += len(sites[kind])
    kinds = [allowed[kind] for kind in design.kinds]
    places = np.array([(site.x, site.y) for site in every], np.float64)
    strength, best, shortest = np.ones(len(design.starts)), list(chosen), np.inf
    for number in range(ROUNDS if chosen else 0):
        held = springs(design, strength)
        early = min(number, 1)
        tries = TRIES[early] * len(chosen)
        exchange(held.energy, every, kinds, chosen, tries, HEAT[early], seed + number)
        lengths = design.lengths(held.rest(design, places[chosen]))
        if lengths.sum() < shortest:
            best, shortest = list(chosen), float(lengths.sum())
        strength = 1 / (lengths + SHORT)
    names = list(cells)
    return {names[cell]: every[site].bel for cell, site in zip(design.macros, best, strict=True)}


def main(netlist: Path, sites: Path, result: Path) -> None:
    """Write `netlist` with a site on every macro, those of `sites`, as `result`."""
    data = json.loads(netlist.read_text(encoding="utf-8"))
    known = {
        kind: [Site(*site) for site in listed]
        for kind, listed in json.loads(sites.read_text(encoding="utf-8")).items()
    }
    top = next(part for part in data["modules"].values() if "top" in part["attributes"])
    try:
        chosen = floorplan(top["cells"], known)
    except ValueError as error:
        raise SystemExit(f"ERROR: {error}") from error
    for name, bel in chosen.items():
        top["cells"][name]["attributes"]["BEL"] = bel
    result.write_text(json.dumps(data), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
