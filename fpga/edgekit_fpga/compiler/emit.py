"""From layers and placements to instructions and the memories they read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga import isa
from edgekit_fpga.arithmetic import Int8, Int64, Multiplier
from edgekit_fpga.boards import Board
from edgekit_fpga.checking import check_program
from edgekit_fpga.compiler import ir
from edgekit_fpga.compiler.allocate import packable
from edgekit_fpga.compiler.stream import Step, stream
from edgekit_fpga.cores import lacking
from edgekit_fpga.cycles import ceil_div
from edgekit_fpga.errors import BoardError, IsaError, Problem, Refused
from edgekit_fpga.program import Placement, Program, Trace, pack_entry
from edgekit_fpga.windows import tap_lanes, window_steps


@dataclass
class Memories:
    """What the program needs in weight, requant and table memory, as it is collected."""

    board: Board
    requant: list[Any] = field(default_factory=list)
    tiles: int = 0
    tables: list[Int64] = field(default_factory=list)

    def add_requant(self, bias: Int64, multipliers: Sequence[Multiplier]) -> int:
        """Append entries, padded to whole tiles; returns the first tile."""
        lanes = self.board.array.output_lanes
        size = ceil_div(len(bias), lanes) * lanes
        columns = np.zeros((3, size), np.int64)
        columns[0, : len(bias)] = bias
        for channel, constants in enumerate(multipliers):
            columns[1, channel], columns[2, channel] = constants.mantissa, constants.shift
        start = self.tiles
        self.requant.append(pack_entry(*columns))
        self.tiles += size // lanes
        return start

    def add_table(self, entries: Int64) -> int:
        """A table's first entry; equal tables are kept once."""
        for index, known in enumerate(self.tables):
            if np.array_equal(known, entries):
                return index * isa.TABLE_ENTRIES
        self.tables.append(entries)
        return (len(self.tables) - 1) * isa.TABLE_ENTRIES


def emit(graph: ir.Graph, placements: Mapping[str, Placement], board: Board) -> Program:
    """The program of a graph whose tensors have their places.

    Raises:
        Refused: a multiplier the requantizer cannot hold.
        BoardError: weights, tables or instructions that do not fit.
    """
    memories = Memories(board)
    problems: list[Problem] = []
    steps = []
    for layer in graph.layers:
        try:
            instruction, words = _instruction(graph, layer, placements, memories)
            if reasons := list(lacking(instruction, board)):
                raise ValueError("; ".join(reasons))
            steps.append(Step(instruction, _trace(graph, layer), words))
        except (ValueError, IsaError) as error:
            problems.append(Problem(layer.node, type(layer).__name__, str(error)))
    if problems:
        raise Refused(problems)
    streamed = stream(steps, board)
    program = Program(
        streamed.instructions,
        streamed.weights,
        streamed.resident,
        np.concatenate([np.zeros(0, np.uint64), *memories.requant]),
        np.concatenate([np.zeros(0, np.int64), *memories.tables]),
        dict(placements),
        streamed.traces,
    )
    _check_fit(program, memories, board)
    check_program(program, board)
    return program


def _check_fit(program: Program, memories: Memories, board: Board) -> None:
    for what, need, have in (
        ("requantization tiles", memories.tiles, board.memory.requant_tiles),
        ("table entries", len(program.tables), board.memory.table_entries),
        ("instructions", len(program.instructions), board.memory.instructions),
    ):
        if need > have:
            raise BoardError(
                f"the model needs {need} {what}, {board.name} has {have}", "use a larger board"
            )


def _trace(graph: ir.Graph, layer: ir.Layer) -> Trace:
    post = layer.post
    copied = isinstance(layer, ir.Copy) and (post.lookup or post.residual)
    return Trace(
        layer.node,
        "" if copied else layer.result,
        post.lookup.result if post.lookup else "",
        post.residual.result if post.residual else "",
        post.pool.result if post.pool else "",
        layer.macs(graph.tensors[layer.result].shape) if isinstance(layer, ir.Conv) else 0,
    )


def _instruction(
    graph: ir.Graph, layer: ir.Layer, placements: Mapping[str, Placement], memories: Memories
) -> tuple[isa.Layer, Int8 | None]:
    """The layer's instruction, and its weight words where it has any."""
    lanes = memories.board.array.output_lanes
    shape = graph.tensors[layer.result].shape
    quantization = graph.tensors[layer.input].quantization
    fields = _tensor("in", placements[layer.input]) | _tensor("out", placements[layer.output])
    fields |= {
        "in_height": placements[layer.input].height,
        "in_width": placements[layer.input].width,
        "in_granules": ceil_div(placements[layer.input].channels, lanes),
        "out_height": shape[1],
        "out_width": shape[2],
        "out_granules": ceil_div(shape[0], lanes),
        "pad_value": quantization.zero_point,
    }
    fields |= _post(layer.post, placements, memories)
    if isinstance(layer, ir.Conv):
        return _conv(graph, layer, fields, memories)
    if isinstance(layer, ir.MaxPool):
        if layer.window.taps > memories.board.array.window_taps:
            raise ValueError(f"a window of {layer.window.taps} taps")
        return isa.MaxPool(**fields | _window(layer.window) | {"pad_value": -128}), None
    if isinstance(layer, ir.Multiply):
        return _multiply(graph, layer, fields, placements, memories), None
    assert isinstance(layer, ir.Copy), layer
    if layer.pad_value is not None:
        fields["pad_value"] = layer.pad_value
    repeat = {"repeat_height": layer.repeat[0], "repeat_width": layer.repeat[1]}
    return isa.Map(**fields | _window(layer.window) | repeat), None


def _tensor(role: str, place: Placement) -> dict[str, int]:
    described = {
        "base": place.base,
        "row": place.row,
        "pixel": place.pixel,
        "rotation": place.rotation,
    }
    return {f"{role}_{name}": value for name, value in described.items()}


def _window(window: ir.Window) -> dict[str, int]:
    return {
        "kernel_height": window.kernel[0],
        "kernel_width": window.kernel[1],
        "stride_height": window.stride[0],
        "stride_width": window.stride[1],
        "dilation_height": window.dilation[0],
        "dilation_width": window.dilation[1],
        "pad_top": window.pad[0],
        "pad_left": window.pad[1],
    }


def _post(post: ir.Post, placements: Mapping[str, Placement], memories: Memories) -> dict[str, int]:
    fields: dict[str, int] = {}
    if post.lookup:
        entries = post.lookup.table.astype(np.int64) & 0xFF
        fields |= {"table": 1, "table_base": memories.add_table(entries)}
    if post.residual:
        add = post.residual
        fields |= {
            "add": 1,
            "add_table": memories.add_table(add.table),
            "add_multiplier": add.multiplier,
            "add_shift": add.shift,
            "add_offset": add.offset,
            "add_low": add.low,
            "add_high": add.high,
        } | _tensor("add", placements[add.operand])
    if post.pool:
        requant = post.pool.requant
        constants = Multiplier.of(float(requant.multiplier[0]))
        fields |= {
            "pool": 1,
            "pool_bias": post.pool.bias,
            "pool_multiplier": constants.mantissa,
            "pool_shift": constants.shift,
            "pool_zero_point": requant.zero_point,
            "pool_low": requant.low,
            "pool_high": requant.high,
        }
    return fields


def _conv(
    graph: ir.Graph, layer: ir.Conv, fields: dict[str, int], memories: Memories
) -> tuple[isa.Layer, Int8]:
    array = memories.board.array
    weights = layer.weights.astype(np.int8, casting="no")
    zero_point = graph.tensors[layer.input].quantization.zero_point
    sums = layer.weights.reshape(len(layer.weights), -1).sum(axis=1, dtype=np.int64)
    bias = layer.bias - zero_point * sums
    if np.abs(bias).max() >= 1 << 31:
        raise ValueError("a bias does not fit int32")
    fields |= _window(layer.window) | {
        "requant": memories.add_requant(
            bias, [Multiplier.of(float(value)) for value in layer.requant.multiplier]
        ),
        "zero_point": layer.requant.zero_point,
        "low": layer.requant.low,
        "high": layer.requant.high,
    }
    channels = graph.tensors[layer.input].shape[0]
    lanes = (array.output_lanes, array.reduction_lanes)
    taps = layer.window.taps
    if layer.groups > 1:
        if taps <= array.window_taps:
            depthwise = isa.Depthwise(**fields)
            depthwise = replace(depthwise, steps=window_steps(depthwise, array))
            return depthwise, depthwise_words(weights, *lanes, tap_lanes(depthwise, array))
        diagonal = isa.Conv(**fields, steps=taps, advance=1)
        return diagonal, diagonal_words(weights, *lanes)
    dense = channels % array.output_lanes == 0 or _is_dense(fields, channels, array.output_lanes)
    if dense and packable(graph, layer, memories.board):
        steps = ceil_div(taps * channels, array.reduction_lanes)
        packed = isa.Pack(**fields, steps=steps, channels=channels)
        return packed, packed_words(weights, *lanes)
    steps = taps * ceil_div(channels, array.reduction_lanes)
    return isa.Conv(**fields, steps=steps), conv_words(weights, *lanes)


def _multiply(
    graph: ir.Graph,
    layer: ir.Multiply,
    fields: dict[str, int],
    placements: Mapping[str, Placement],
    memories: Memories,
) -> isa.Multiply:
    channels = graph.tensors[layer.result].shape[0]
    constants = Multiplier(layer.mantissa, layer.shift)
    fields |= _tensor("add", placements[layer.operand]) | {
        "in_zero_point": graph.tensors[layer.input].quantization.zero_point,
        "add_zero_point": graph.tensors[layer.operand].quantization.zero_point,
        "requant": memories.add_requant(np.full(channels, layer.bias), [constants] * channels),
        "zero_point": layer.zero_point,
        "low": layer.low,
        "high": layer.high,
    }
    return isa.Multiply(**fields)


def _is_dense(fields: Mapping[str, int], channels: int, lanes: int) -> bool:
    return fields["in_row"] == ceil_div(fields["in_width"] * channels, lanes)


def conv_words(weights: Int8, outputs: int, reduction: int) -> Int8:
    """CONV: tile, tap, channel block, (o, i) from weights (M, C, KH, KW)."""
    made, channels, high, wide = weights.shape
    tiles, blocks = ceil_div(made, outputs), ceil_div(channels, reduction)
    full = np.zeros((tiles * outputs, high, wide, blocks * reduction), np.int8)
    full[:made, :, :, :channels] = weights.transpose(0, 2, 3, 1)
    split = full.reshape(tiles, outputs, high * wide, blocks, reduction)
    return split.transpose(0, 2, 3, 1, 4).reshape(-1, outputs, reduction)


def packed_words(weights: Int8, outputs: int, reduction: int) -> Int8:
    """PACK: tile, step, (o, i) over the patch ky, kx, c."""
    flat = weights.transpose(0, 2, 3, 1).reshape(len(weights), -1, 1, 1)
    return conv_words(flat, outputs, reduction)


def depthwise_words(weights: Int8, outputs: int, reduction: int, lanes: NDArray[np.intp]) -> Int8:
    """DWCONV: tile, step, (o, i), every tap in its lane, step * I + i, of `lanes` (KH, KW)."""
    flat = np.zeros((len(weights), lanes.max() + 1, 1, 1), np.int8)
    flat[:, lanes, 0, 0] = weights[:, 0]
    return conv_words(flat, outputs, reduction)


def diagonal_words(weights: Int8, outputs: int, reduction: int) -> Int8:
    """CONV with advance 1: tile, tap, (o, i), only i = o is not zero."""
    made, _, high, wide = weights.shape
    tiles = ceil_div(made, outputs)
    full = np.zeros((tiles * outputs, high * wide), np.int8)
    full[:made] = weights.reshape(made, -1)
    words = np.zeros((tiles, high * wide, outputs, reduction), np.int8)
    lane = np.arange(outputs)
    words[:, :, lane, lane] = full.reshape(tiles, outputs, -1).transpose(0, 2, 1)
    return words.reshape(-1, outputs, reduction)
