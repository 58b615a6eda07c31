"""Where weights lie in weight memory, and which of them are streamed in behind the computation.

Weight memory is filled in the order of the program. While everything fits, all of it is resident.
Otherwise it is a ring: what no longer fits is brought by LOADs over the words of layers that are
done. A LOAD stands right behind the last reader of what it replaces, so that it runs behind the
layers in between; a layer with more words than half the memory is cut by its output tiles, so that
one half is read while the other is filled.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgekit_fpga import isa
from edgekit_fpga.arithmetic import Int8
from edgekit_fpga.boards import Board
from edgekit_fpga.errors import BoardError
from edgekit_fpga.program import Trace


@dataclass(frozen=True, eq=False)
class Step:
    """A layer instruction with its weight words, (words, O, I), or none."""

    instruction: isa.Layer
    trace: Trace
    words: Int8 | None


@dataclass(frozen=True, eq=False)
class Streamed:
    """The program's instructions with their LOADs, traces, the weight stream, what is resident."""

    instructions: tuple[isa.Instruction, ...]
    traces: tuple[Trace, ...]
    weights: Int8
    resident: int


def stream(steps: Sequence[Step], board: Board) -> Streamed:
    """Place the weights of all layers.

    Raises:
        BoardError: a single output tile has more words than half of weight memory.
    """
    room = board.memory.weight_words
    lanes = (board.array.output_lanes, board.array.reduction_lanes)
    if sum(_words(step) for step in steps) > room:
        steps = [part for step in steps for part in _cut(step, board)]
    places = _ring([_words(step) for step in steps], room)
    loads: dict[int, list[isa.Load]] = {}
    body = []
    resident = 0
    for index, (step, place) in enumerate(zip(steps, places, strict=True)):
        layer = step.instruction
        if isinstance(layer, isa.Conv | isa.Pack | isa.Depthwise):
            layer = replace(layer, weights=place.start, wait=int(place.behind is not None))
            if place.behind is None:
                resident = place.start + _words(step)
            else:
                load = isa.Load(weights=place.start, count=_words(step))
                loads.setdefault(place.behind, []).append(load)
        body.append((index, layer))
    instructions: list[isa.Instruction] = [*loads.get(-1, [])]
    for index, layer in body:
        instructions += [layer, *loads.get(index, [])]
    stored = [step.words for step in steps if step.words is not None]
    return Streamed(
        (*instructions, isa.End()),
        tuple(step.trace for step in steps),
        np.concatenate([np.zeros((0, *lanes), np.int8), *stored]),
        resident,
    )


@dataclass(frozen=True)
class _Place:
    """Where a layer's words start; `behind` is the step its LOAD follows, None if resident."""

    start: int
    behind: int | None


def _ring(sizes: Sequence[int], room: int) -> list[_Place]:
    """A place for each step's words, around and around the memory."""
    places: list[_Place] = []
    top, streaming, earliest = 0, False, -1
    for index, size in enumerate(sizes):
        if top + size > room:
            top, streaming = 0, True
        if streaming and size:
            over = [
                earlier
                for earlier in range(index)
                if sizes[earlier]
                and places[earlier].start < top + size
                and top < places[earlier].start + sizes[earlier]
            ]
            # the stream has one order: no LOAD overtakes an earlier one
            earliest = max(earliest, *over, -1)
            places.append(_Place(top, earliest))
        else:
            places.append(_Place(top, None))
        top += size
    return places


def _words(step: Step) -> int:
    return 0 if step.words is None else len(step.words)


def _cut(step: Step, board: Board) -> list[Step]:
    """The step, or its output tiles in parts of at most half of weight memory."""
    half = board.memory.weight_words // 2
    if step.words is None or len(step.words) <= half:
        return [step]
    layer = step.instruction
    fit = half // layer.steps
    if isinstance(layer, isa.Depthwise):
        block = board.array.reduction_lanes // board.array.output_lanes
        fit = fit // block * block
    if fit < 1:
        raise BoardError(
            f"{step.trace.node}: an output tile needs {layer.steps} weight words, "
            f"{board.name} streams at most {half} at a time",
            "use a larger board",
        )
    parts: list[Step] = []
    for first in range(0, layer.out_granules, fit):
        count = min(fit, layer.out_granules - first)
        last = first + count == layer.out_granules
        words = step.words[first * layer.steps : (first + count) * layer.steps]
        # what is in memory has its name when the last part is written
        share = step.trace.macs * count // layer.out_granules
        done = sum(part.trace.macs for part in parts)
        trace = (
            replace(_final(step.trace), macs=step.trace.macs - done)
            if last
            else Trace(step.trace.node, macs=share)
        )
        parts.append(Step(_part(layer, first, count), trace, words))
    return parts


def _final(trace: Trace) -> Trace:
    for kind in ("pool", "add", "table"):
        if name := getattr(trace, kind):
            return Trace(trace.node, **{kind: name})
    return trace


def _part(layer: isa.Layer, first: int, count: int) -> isa.Layer:
    """The same layer for `count` output tiles from `first` on."""
    part = replace(
        layer,
        out_base=layer.out_base + first,
        out_granules=count,
        requant=layer.requant + first,
    )
    if layer.add:
        part = replace(part, add_base=layer.add_base + first)
    along = isinstance(layer, isa.Depthwise) or (isinstance(layer, isa.Conv) and layer.advance)
    if along:
        part = replace(part, in_base=layer.in_base + first, in_granules=count)
    return part
