"""Where a package spends its cycles and its memory, instruction by instruction."""

from dataclasses import dataclass

from edgekit_fpga import isa
from edgekit_fpga.cycles import program_cycles
from edgekit_fpga.package import Package


@dataclass(frozen=True)
class LayerProfile:
    """One instruction: what it computes, its cycles, how busy the array is, what it holds.

    `macs` counts useful products, without the padding of lanes; `activation_bytes` is what input,
    output and residual operand take in activation memory.
    """

    node: str
    instruction: str
    shape: str
    macs: int
    cycles: int
    utilization: float
    weight_bytes: int
    activation_bytes: int


def profile(package: Package) -> list[LayerProfile]:
    """The profile of every instruction that computes."""
    program, array, lanes = package.program, package.board.array, package.board.array.output_lanes
    tensors = package.manifest["tensors"]
    spent = program_cycles(program.instructions, package.board)
    layers = [
        (step, cost)
        for step, cost in zip(program.instructions, spent, strict=True)
        if isinstance(step, isa.Layer)
    ]
    made = []
    # a layer in parts has its names on the last; the parts before make whole granules
    for (layer, cost), trace in zip(layers, program.traces, strict=True):
        own = trace.own or trace.table or trace.add or trace.pool
        channels = layer.out_granules * lanes
        if own:
            channels -= -tensors[own]["shape"][0] % lanes
        height, width = layer.out_height, layer.out_width
        written = 1 if layer.pool else height * width
        held = layer.in_height * layer.in_width * layer.in_granules
        held += written * layer.out_granules
        held += height * width * layer.out_granules * layer.add
        words = layer.out_granules * layer.steps
        made.append(
            LayerProfile(
                trace.node,
                " ".join([layer.NAME, *(flag for flag in _FLAGS if getattr(layer, flag))]),
                f"{channels}x{height}x{width}",
                trace.macs,
                cost,
                trace.macs / (array.macs * cost),
                words * array.word_bytes,
                held * lanes,
            )
        )
    return made


_FLAGS = ("table", "add", "pool")
