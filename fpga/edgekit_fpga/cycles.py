"""The cycle model of docs/npu-isa.md: what each instruction costs on an array."""

from collections import Counter
from collections.abc import Sequence

from edgekit_fpga import isa
from edgekit_fpga.boards import Array, Board

# fetching and decoding the next instruction: a layer never takes less
FETCH_CYCLES = 36


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
