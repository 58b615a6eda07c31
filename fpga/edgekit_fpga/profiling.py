"""Where a package spends its cycles and its memory, instruction by instruction."""

from dataclasses import dataclass

from edgekit_fpga import isa
from edgekit_fpga.cycles import link_cycles, program_costs
from edgekit_fpga.package import Package


@dataclass(frozen=True)
class LayerProfile:
    """One instruction: what it computes, its cycles, how busy the array is, what it holds.

    `macs` counts useful products, without the padding of lanes; `waiting` is how many of `cycles`
    go by before it begins because weights stream in, LOADs before it included; `activation_bytes`
    is what input, output and residual operand take in activation memory.
    """

    node: str
    instruction: str
    shape: str
    macs: int
    cycles: int
    waiting: int
    utilization: float
    weight_bytes: int
    activation_bytes: int

    @property
    def row(self) -> tuple[str | int, ...]:
        """What `LAYER_COLUMNS` names."""
        return (
            self.node,
            self.instruction,
            self.shape,
            self.macs,
            self.cycles,
            self.waiting,
            f"{100 * self.utilization:.0f}%",
            self.weight_bytes,
            self.activation_bytes,
        )


@dataclass(frozen=True)
class Streaming:
    """What it costs that weight memory is too small for all of a program's weights.

    Attributes:
        bytes_in: bytes of weights that its LOADs bring in each run.
        again: bytes that the host loads again before each run, because LOADs have replaced them.
        link: cycles that `bytes_in` are on the link, beside the layers' work where they can be.
        waiting: cycles that layers wait for them, as their profiles say.
    """

    bytes_in: int
    again: int
    link: int
    waiting: int


def streaming(package: Package) -> Streaming | None:
    """What a package streams in over the link of its board; None where all weights are resident."""
    program, board = package.program, package.board
    words = sum(step.count for step in program.instructions if isinstance(step, isa.Load))
    if not words:
        return None
    bytes_in = words * board.array.word_bytes
    waiting = sum(layer.waiting for layer in profile(package))
    again = program.resident * board.array.word_bytes
    return Streaming(bytes_in, again, link_cycles(bytes_in, board), waiting)


LAYER_COLUMNS = (
    *("Node", "Does", "Output", "MACs", "Cycles", "Waiting", "Use", "Weights B", "Live B"),
)


@dataclass(frozen=True)
class MemoryUse:
    """Where a tensor lies: granules `first` to `last` of each bank, from one layer to another.

    `written_by` is the layer that makes it, -1 the host; `read_by` the last that reads it, or the
    number of layers where the host does.
    """

    tensor: str
    shape: str
    first: int
    last: int
    written_by: int
    read_by: int

    @property
    def row(self) -> tuple[str | int, ...]:
        """What `MEMORY_COLUMNS` names."""
        return (
            self.tensor, self.shape, self.first, self.last, self.written_by, self.read_by
        )  # fmt: skip

    def __str__(self) -> str:
        granules = f"{self.first}-{self.last}"
        layers = f"{self.written_by} to {self.read_by}"
        return f"granules {granules:12} layers {layers:10} {self.shape:12} {self.tensor}"


MEMORY_COLUMNS = ("Tensor", "Shape", "First granule", "Last", "Written by layer", "Last read by")


def memory_map(package: Package) -> list[MemoryUse]:
    """Every tensor that has memory of its own, in the order in which it is written."""
    banks = package.board.array.banks
    made = []
    for name, (written, read) in package.manifest["npu"]["lifetimes"].items():
        place = package.program.placements[name]
        size = -(-(place.height + place.rotation) // banks) * place.row
        shape = f"{place.channels}x{place.height}x{place.width}"
        made.append(MemoryUse(name, shape, place.base, place.base + size - 1, written, read))
    return sorted(made, key=lambda use: (use.written_by, use.first))


def profile(package: Package) -> list[LayerProfile]:
    """The profile of every instruction that computes."""
    program, array, lanes = package.program, package.board.array, package.board.array.output_lanes
    tensors = package.manifest["tensors"]
    spent = program_costs(program.instructions, package.board)
    layers: list[tuple[isa.Layer, int, int]] = []
    loading = 0
    for step, cost in zip(program.instructions, spent, strict=True):
        if isinstance(step, isa.Layer):
            waiting = loading + cost.waiting
            layers.append((step, waiting + cost.work, waiting))
        loading = 0 if isinstance(step, isa.Layer) else loading + cost.total
    made = []
    # a layer in parts has its names on the last; the parts before make whole granules
    for (layer, total, waiting), trace in zip(layers, program.traces, strict=True):
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
                total,
                waiting,
                trace.macs / (array.macs * total),
                words * array.word_bytes,
                held * lanes,
            )
        )
    return made


_FLAGS = ("table", "add", "pool")
