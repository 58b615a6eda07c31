"""The cycle model of docs/npu-isa.md: what each instruction costs on an array."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit_fpga import isa
from edgekit_fpga.boards import AXI, COMPACT, Array, Board
from edgekit_fpga.windows import in_grid

# how often the compact core takes a result with a residual add, and one of MUL
ADD_CYCLES, MULTIPLY_CYCLES = 60, 26
# of its latency, what results that are no sums are spared
REQUANTIZER_LATENCY = 20
# fetching and decoding the next instruction: a layer never takes less
FETCH_CYCLES = 37
# rows that go into a patch of PACK in a cycle
PATCH_ROWS = 2
# bytes a cycle of the AXI stream, and of Verilator's host
STREAM_BYTES = 4
# bits of a byte on a serial line, start and stop included
BYTE_BITS = 10
# bytes of weights in a frame of a running NPU, and what request and reply add (docs/npu-link.md)
FRAME_BYTES, FRAME_EXTRA = 64, 7


@dataclass(frozen=True)
class Cost:
    """Cycles of one instruction: its own, and those it waits for streamed weights before it."""

    work: int
    waiting: int = 0

    @property
    def total(self) -> int:
        """Both."""
        return self.work + self.waiting


def ceil_div(value: int, by: int) -> int:
    """The quotient of two numbers, rounded up."""
    return -(-value // by)


def cycles(instruction: isa.Instruction, array: Array) -> int:
    """Cycles of one instruction, its latency included."""
    if isinstance(instruction, isa.Load):
        # it ends at once; behind a layer it was fetched meanwhile, the next instruction is not
        return FETCH_CYCLES
    if isinstance(instruction, isa.End):
        return 0
    assert isinstance(instruction, isa.Layer)
    if array.core == COMPACT:
        return _compact(instruction, array)
    work = _work(instruction, array)
    if instruction.pool:
        work += instruction.out_granules
    return max(work + array.latency, FETCH_CYCLES)


def link_cycles(count: int, board: Board) -> int:
    """Cycles that a board's link takes to bring `count` bytes of weights to a running NPU.

    A word a cycle over AXI. On a serial line the time its bits take: of the frames and their
    replies (module `npu_serial`), or of the words alone (the compact core). What the host and its
    USB converter take to answer is not counted.
    """
    if board.link.kind == AXI:
        return ceil_div(count, STREAM_BYTES)
    sent = count
    if board.array.core != COMPACT:
        sent = ceil_div(count * (FRAME_BYTES + FRAME_EXTRA), FRAME_BYTES)
    return sent * BYTE_BITS * board.clocks_per_bit


def program_costs(program: Sequence[isa.Instruction], board: Board) -> list[Cost]:
    """What each instruction of a program costs.

    A LOAD waits until the one before it has landed, and the instructions behind it with it.
    """
    made = []
    now = landed = 0
    for instruction in program:
        waits = not isinstance(instruction, isa.Layer) or instruction.wait
        cost = Cost(cycles(instruction, board.array), max(landed - now, 0) if waits else 0)
        if isinstance(instruction, isa.Load):
            bytes_in = instruction.count * board.array.word_bytes
            landed = max(now, landed) + link_cycles(bytes_in, board)
        now += cost.total
        made.append(cost)
    return made


def program_cycles(program: Sequence[isa.Instruction], board: Board) -> list[int]:
    """Cycles of each instruction of a program, waiting for streamed weights included."""
    return [cost.total for cost in program_costs(program, board)]


def _work(layer: isa.Layer, array: Array) -> int:
    pixels = layer.out_height * layer.out_width
    tiles = layer.out_granules
    requantized = isinstance(layer, isa.Conv | isa.Pack | isa.Depthwise | isa.Multiply)
    post = max(
        1,
        array.output_lanes // array.requantizers if requantized else 0,
        array.output_lanes // array.lookups * (layer.table + layer.add),
    )
    tile = max(layer.steps, post)
    if isinstance(layer, isa.Conv):
        return pixels * tiles * tile
    if isinstance(layer, isa.Pack):
        run = layer.kernel_width * layer.channels
        words = ceil_div(run + array.output_lanes - 1, array.reduction_lanes)
        turns = ceil_div(min(layer.kernel_height, array.banks), PATCH_ROWS)
        groups = ceil_div(layer.kernel_height, array.banks)
        return pixels * max(tiles * tile, groups * words * turns)
    if isinstance(layer, isa.Depthwise):
        return _windowed(layer, array, tile)
    if isinstance(layer, isa.MaxPool):
        return _windowed(layer, array, post)
    second = isinstance(layer, isa.Multiply) or layer.add
    return pixels * tiles * max(post, 2 if second and array.banks == 1 else 1)


def _windowed(layer: isa.Layer, array: Array, tile: int) -> int:
    wide, high = layer.kernel_width, layer.kernel_height
    reuse = layer.dilation_width == 1 and layer.stride_width < wide
    columns = wide + (layer.out_width - 1) * (layer.stride_width if reuse else wide)
    column = ceil_div(high, array.banks) if in_grid(layer, array) else high
    block = array.reduction_lanes // array.output_lanes
    whole, rest = divmod(layer.out_granules, block)
    groups = [block] * whole + [rest] * (rest > 0)
    return sum(
        layer.out_height * max(layer.out_width * tiles * tile, columns * column) for tiles in groups
    )


def _compact(layer: isa.Layer, array: Array) -> int:
    """A layer on the compact core, where nothing of the next one happens meanwhile."""
    depthwise = isinstance(layer, isa.Depthwise | isa.MaxPool)
    elementwise = isinstance(layer, isa.Map | isa.Multiply)
    taps = layer.kernel_height * layer.kernel_width
    beats = 1 if elementwise else taps if depthwise else layer.steps
    second = MULTIPLY_CYCLES if isinstance(layer, isa.Multiply) else ADD_CYCLES * layer.add
    beats = max(beats, array.requantizer_cycles, second)
    pixels, tiles = layer.out_height * layer.out_width, layer.out_granules
    block = 4 if depthwise or elementwise else tiles
    whole, rest = divmod(tiles, block)
    fill = _fill(layer, array)
    work = sum(
        pixels * max(count * beats, fill + count) for count in [block] * whole + [rest] * (rest > 0)
    )
    latency = array.latency
    if isinstance(layer, isa.MaxPool | isa.Map):
        latency -= REQUANTIZER_LATENCY
    return _preparation(layer) + fill + work + latency


def _fill(layer: isa.Layer, array: Array) -> int:
    """Cycles to read what a pixel of the result needs: words where all are aligned, else bytes."""
    if isinstance(layer, isa.Pack):
        return layer.kernel_height * layer.kernel_width * layer.channels + 2
    lanes = array.reduction_lanes
    words = 1
    if not isinstance(layer, isa.Map | isa.Multiply):
        words = layer.kernel_height * layer.kernel_width
    if isinstance(layer, isa.Conv):
        words *= ceil_div(layer.in_granules, lanes)
    aligned = not (layer.in_base % lanes or layer.in_row % lanes or layer.in_pixel % lanes)
    return words * (1 if aligned else lanes) + 2


def _preparation(layer: isa.Layer) -> int:
    """Cycles of the repeated additions that make a layer's address steps."""
    strides = 2
    if not isinstance(layer, isa.Multiply):
        strides = layer.stride_height + layer.stride_width
    channels = layer.channels if isinstance(layer, isa.Pack) else 0
    dilations = layer.dilation_height + layer.dilation_width
    pads = abs(layer.pad_top) + abs(layer.pad_left)
    return strides + dilations + pads + 2 * channels + layer.kernel_height
