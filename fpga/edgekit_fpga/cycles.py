"""The cycle model of docs/npu-isa.md: what each instruction costs on an array."""

from collections import Counter
from collections.abc import Sequence

from edgekit_fpga import isa
from edgekit_fpga.boards import COMPACT, Array, Board

# how often the compact core takes a result with a residual add, and one of MUL
ADD_CYCLES, MULTIPLY_CYCLES = 60, 26
# of its latency, what results that are no sums are spared
REQUANTIZER_LATENCY = 20
# fetching and decoding the next instruction: a layer never takes less
FETCH_CYCLES = 37


def ceil_div(value: int, by: int) -> int:
    """The quotient of two numbers, rounded up."""
    return -(-value // by)


def cycles(instruction: isa.Instruction, array: Array) -> int:
    """Cycles of one instruction, its latency included."""
    if isinstance(instruction, isa.Load):
        return 1
    if isinstance(instruction, isa.End):
        return 0
    assert isinstance(instruction, isa.Layer)
    if array.core == COMPACT:
        return _compact(instruction, array)
    work = _work(instruction, array)
    if instruction.pool:
        work += instruction.out_granules
    return max(work + array.latency, FETCH_CYCLES)


def program_cycles(program: Sequence[isa.Instruction], board: Board) -> list[int]:
    """Cycles of each instruction of a program, waiting for streamed weights included.

    LOADs take the link one after the other, each from when its turn in the program comes.
    """
    made = []
    now = landed = 0
    for instruction in program:
        spent = cycles(instruction, board.array)
        if isinstance(instruction, isa.Load):
            bytes_in = instruction.count * board.array.word_bytes
            landed = max(now, landed) + ceil_div(bytes_in, board.link.bytes_per_cycle)
        elif isinstance(instruction, isa.Layer) and instruction.wait:
            spent += max(landed - now, 0)
        now += spent
        made.append(spent)
    return made


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
        words = 1 + ceil_div(run - 1, array.reduction_lanes)
        return pixels * max(tiles * tile, ceil_div(layer.kernel_height, array.banks) * words)
    if isinstance(layer, isa.Depthwise):
        return _windowed(layer, array, tile)
    if isinstance(layer, isa.MaxPool):
        return _windowed(layer, array, post)
    second = isinstance(layer, isa.Multiply) or layer.add
    return pixels * tiles * max(post, 2 if second and array.banks == 1 else 1)


def _windowed(layer: isa.Layer, array: Array, tile: int) -> int:
    span = (layer.kernel_width - 1) * layer.dilation_width + 1
    columns = (layer.out_width - 1) * min(layer.stride_width, span) + span
    rows = (ky * layer.dilation_height % array.banks for ky in range(layer.kernel_height))
    column = max(Counter(rows).values())
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
