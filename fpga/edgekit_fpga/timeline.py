"""A package as a picture: its layers over time, and what they keep in activation memory."""

from collections.abc import Sequence
from html import escape

from edgekit_fpga.package import Package
from edgekit_fpga.profiling import (
    LAYER_COLUMNS,
    MEMORY_COLUMNS,
    LayerProfile,
    memory_map,
    profile,
)

WIDTH, LEFT, BARS, MAP, LINE, LETTER = 1000, 60, 120, 240, 18, 6.2
FONT = 'font-family="sans-serif" font-size="11"'
COLOURS = {
    "CONV": "#4477aa",
    "PACK": "#66ccee",
    "DWCONV": "#228833",
    "MAXPOOL": "#ccbb44",
    "MAP": "#ee6677",
    "MUL": "#aa3377",
}


def svg(package: Package) -> str:
    """An SVG of a package's estimated run.

    Above, a bar for each layer: as wide as its cycles, as high as its use of the multipliers.
    Below, a box for each tensor: from the layer that writes it to the last that reads it, and where
    it lies in the banks of activation memory.
    """
    layers = profile(package)
    starts = [sum(layer.cycles for layer in layers[:index]) for index in range(len(layers) + 1)]
    total = starts[-1]
    busy = sum(layer.macs for layer in layers) / (package.board.array.macs * total)
    scale = (WIDTH - LEFT - 10) / total
    height = 40 + BARS + 50 + MAP + 30
    title = (
        f"{total:,} cycles estimated on {package.board.name}, {100 * busy:.1f}% of the multipliers"
    )
    clock = package.board.clock_mhz
    spent = f"{total:,} cycles, {total / clock:,.0f} us at {clock} MHz"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {FONT}>',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
        *_axis(40, BARS, ("100%", "0%")),
        *_bars(layers, starts, scale),
        *_legend({layer.instruction.split()[0] for layer in layers}),
        *_axis(BARS + 90, MAP, (f"{package.board.memory.activation_granules}", "0")),
        *_tensors(package, starts, scale),
        f'<text x="{LEFT}" y="{height - 8}">activation memory, granules of a bank</text>',
        f'<text x="{WIDTH - 10}" y="{height - 8}" text-anchor="end">{escape(spent)}</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def html(package: Package) -> str:
    """A page that needs nothing else: the picture, then layers and memory as tables."""
    title = escape(f"NPU package for {package.board.name}")
    parts = [
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>',
        f"<style>{_STYLE}</style>",
        f"<h1>{title}</h1>",
        svg(package),
        _table("Layers", LAYER_COLUMNS, [layer.row for layer in profile(package)]),
        _table("Activation memory", MEMORY_COLUMNS, [use.row for use in memory_map(package)]),
        "</html>",
    ]
    return "\n".join(parts) + "\n"


_STYLE = (
    "body{font-family:sans-serif;max-width:64em;margin:1em auto}"
    "table{border-collapse:collapse;font-size:85%}"
    "td,th{padding:.15em .6em;border-bottom:1px solid #ddd;text-align:left}"
    "td.n{text-align:right;font-variant-numeric:tabular-nums}"
)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str | int]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in rows)
    return f"<h2>{escape(title)}</h2>\n<table><tr>{head}</tr>\n{body}</table>"


def _cell(value: str | int) -> str:
    if isinstance(value, int):
        return f'<td class="n">{value:,}</td>'
    return f"<td>{escape(value)}</td>"


def _bars(layers: Sequence[LayerProfile], starts: Sequence[int], scale: float) -> list[str]:
    made = []
    for layer, start in zip(layers, starts, strict=False):
        wide = max(layer.cycles * scale, 0.5)
        x, tall = LEFT + start * scale, max(layer.utilization * BARS, 1)
        colour = COLOURS[layer.instruction.split()[0]]
        title = escape(
            f"{layer.node}: {layer.instruction}, {layer.shape}, {layer.cycles:,} cycles, "
            f"{100 * layer.utilization:.0f}%"
        )
        made.append(
            f'<rect x="{x:.1f}" y="{40 + BARS - tall:.1f}" width="{wide:.1f}" '
            f'height="{tall:.1f}" fill="{colour}" stroke="white" stroke-width="0.5">'
            f"<title>{title}</title></rect>"
        )
        made += _label(layer.node, x, 40 + BARS - 6, wide, "white" if tall > LINE else "#333")
    return made


def _label(text: str, x: float, y: float, wide: float, colour: str) -> list[str]:
    """A text at the left of a box, as much of it as fits."""
    fit = int((wide - 6) / LETTER)
    if fit < 3:
        return []
    shown = text if len(text) <= fit else text[: fit - 1] + "\u2026"
    return [f'<text x="{x + 3:.1f}" y="{y:.1f}" fill="{colour}">{escape(shown)}</text>']


def _tensors(package: Package, starts: Sequence[int], scale: float) -> list[str]:
    npu, program = package.manifest["npu"], package.program
    granules = package.board.memory.activation_granules
    banks = package.board.array.banks
    ends = _ends(package, starts)
    made = []
    for index, (name, (first, last)) in enumerate(sorted(npu["lifetimes"].items())):
        place = program.placements[name]
        size = -(-(place.height + place.rotation) // banks) * place.row
        x = LEFT + (ends[first][0] if first >= 0 else 0) * scale
        right = LEFT + (ends[last][1] if last < len(ends) else starts[-1]) * scale
        tall = max(size / granules * MAP, 1)
        y = BARS + 90 + MAP - place.base / granules * MAP - tall
        shade = ("#88aacc", "#aaccaa", "#ddcc99", "#ccaabb")[index % 4]
        shape = f"{place.channels}x{place.height}x{place.width}"
        title = escape(f"{name}: {shape}, granules {place.base} to {place.base + size - 1}")
        made.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(right - x, 1):.1f}" height="{tall:.1f}" '
            f'fill="{shade}" stroke="#555" stroke-width="0.4"><title>{title}</title></rect>'
        )
        if tall > LINE - 4:
            made += _label(f"{name} {shape}", x, y + 12, right - x, "#333")
    return made


def _ends(package: Package, starts: Sequence[int]) -> list[tuple[int, int]]:
    """First and last cycle of each layer of the graph; one in parts has a trace for each part."""
    made: list[tuple[int, int]] = []
    begin = 0
    for index, trace in enumerate(package.program.traces):
        if trace.own or trace.table or trace.add or trace.pool:
            made.append((starts[begin], starts[index + 1]))
            begin = index + 1
    return made


def _axis(top: int, tall: int, labels: tuple[str, str]) -> list[str]:
    right = WIDTH - 10
    lines = [
        f'<line x1="{LEFT}" y1="{y}" x2="{right}" y2="{y}" stroke="#ccc"/>'
        for y in (top, top + tall)
    ]
    texts = [
        f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{label}</text>'
        for y, label in zip((top, top + tall), labels, strict=True)
    ]
    return lines + texts


def _legend(kinds: set[str]) -> list[str]:
    made = []
    for index, kind in enumerate(kind for kind in COLOURS if kind in kinds):
        x = LEFT + index * 90
        y = 40 + BARS + LINE
        made.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{COLOURS[kind]}"/>')
        made.append(f'<text x="{x + 14}" y="{y}">{kind}</text>')
    return made
