"""Checks a program against its board before anything runs it: whoever wrote it may lie.

What passes here reads and writes inside its memories, ends, and needs no more room or time than the
sizes of the board allow. The compiler checks its own programs in the same way.
"""

from collections.abc import Iterator

from edgekit_fpga import isa
from edgekit_fpga.boards import Board
from edgekit_fpga.cores import lacking
from edgekit_fpga.errors import IsaError
from edgekit_fpga.program import Program
from edgekit_fpga.windows import window_steps

# steps of one output tile that any net worth running stays far below
MOST_STEPS = 1 << 15
ADD_SHIFTS = range(16, 37)


def check_program(program: Program, board: Board) -> None:
    """Check every instruction.

    Raises:
        IsaError: naming the instruction and what is wrong with it.
    """
    if not 0 <= program.resident <= min(len(program.weights), board.memory.weight_words):
        raise IsaError(f"{program.resident} weight words cannot be resident")
    memory = board.memory
    tiles = len(program.requant) // board.array.output_lanes
    for what, size, room in (
        ("instructions", len(program.instructions), memory.instructions),
        ("requantization tiles", tiles, memory.requant_tiles),
        ("table entries", len(program.tables), memory.table_entries),
    ):
        if size > room:
            raise IsaError(f"{size} {what}, the board holds {room}")
    limit = 1 << (isa.TABLE_ENTRY_BITS - 1)
    if ((program.tables < -limit) | (program.tables >= limit)).any():
        raise IsaError(f"a table entry has more than {isa.TABLE_ENTRY_BITS} bits")
    layers = sum(isinstance(step, isa.Layer) for step in program.instructions)
    if len(program.traces) != layers:
        raise IsaError(f"{layers} layer instructions, {len(program.traces)} traces")
    streamed = loaded = program.resident
    for index, step in enumerate(program.instructions):
        if isinstance(step, isa.Load):
            streamed += step.count
            loaded = max(loaded, step.weights + step.count)
        for problem in _problems(step, program, board, loaded):
            raise IsaError(f"instruction {index} ({step.NAME}): {problem}")
    if streamed > len(program.weights):
        raise IsaError("the weight stream ends before its last LOAD")
    _check_placements(program, board)


def _problems(step: isa.Instruction, program: Program, board: Board, loaded: int) -> Iterator[str]:
    """What is wrong with an instruction before which `loaded` weight words have been filled."""
    memory = board.memory
    if isinstance(step, isa.Load) and step.weights + step.count > memory.weight_words:
        yield "it writes beyond weight memory"
    if not isinstance(step, isa.Layer):
        return
    yield from lacking(step, board)
    yield from _outside(step, board)
    yield from _windows(step, board)
    if isinstance(step, isa.Conv | isa.Pack | isa.Depthwise):
        if step.weights + step.out_granules * step.steps > loaded:
            yield "it reads weights that nothing has loaded"
        yield from _sums(step, board)
    elif step.pool:
        yield "only sums are pooled"
    if isinstance(step, isa.Conv | isa.Pack | isa.Depthwise | isa.Multiply):
        tiles = len(program.requant) // board.array.output_lanes
        if step.requant + step.out_granules > tiles:
            yield "it reads beyond requant memory"
        if step.low > step.high:
            yield f"it clamps to {step.low} and {step.high}"
    if isinstance(step, isa.Multiply) and (step.add or step.table):
        yield "MUL takes neither table nor add"
    if isinstance(step, isa.Multiply) and (step.pad_top or step.pad_left):
        yield "MUL has nothing around its planes"
    for flag, name in ((step.add, "add"), (step.pool, "pool")):
        low, high = getattr(step, f"{name}_low"), getattr(step, f"{name}_high")
        if flag and low > high:
            yield f"its {name} clamps to {low} and {high}"
    for wanted, base in ((step.table, step.table_base), (step.add, step.add_table)):
        if wanted and base + isa.TABLE_ENTRIES > len(program.tables):
            yield "it reads beyond table memory"
    if step.add and step.add_shift not in ADD_SHIFTS:
        yield f"add_shift is {step.add_shift}"


def _outside(step: isa.Layer, board: Board) -> Iterator[str]:
    """Tensors that reach beyond activation memory."""
    planes = {
        "in": (step.in_height, step.in_width, step.in_granules),
        "out": (step.out_height, step.out_width, step.out_granules),
    }
    if step.pool:
        planes["out"] = (1, 1, step.out_granules)
    if step.add or isinstance(step, isa.Multiply):
        planes["add"] = (step.out_height, step.out_width, step.out_granules)
    if isinstance(step, isa.Pack):
        bytes_in = step.in_width * step.channels
        planes["in"] = (step.in_height, 1, -(-bytes_in // board.array.output_lanes))
    for role, (height, width, granules) in planes.items():
        if not (height and width and granules):
            yield f"its {role} tensor is empty"
            continue
        base, row, pixel, rotation = (
            getattr(step, f"{role}_{name}") for name in ("base", "row", "pixel", "rotation")
        )
        if rotation >= board.array.banks:
            yield f"its {role} tensor is rotated by {rotation} of {board.array.banks} banks"
        last = base + (height - 1 + rotation) // board.array.banks * row + (width - 1) * pixel
        if last + granules > board.memory.activation_granules:
            yield f"its {role} tensor reaches beyond activation memory"
    # a pooled plane is never in memory as a whole, but comes from an input that is
    room = board.memory.activation_granules * board.array.banks
    if step.out_height * step.out_width > room or step.out_granules > room:
        yield "its output is larger than activation memory"


def _windows(step: isa.Layer, board: Board) -> Iterator[str]:
    names = ["stride_height", "stride_width"]
    if not isinstance(step, isa.Map | isa.Multiply):
        names += ["kernel_height", "kernel_width", "dilation_height", "dilation_width"]
    if isinstance(step, isa.Map):
        names += ["repeat_height", "repeat_width"]
    if not isinstance(step, isa.Multiply):
        for name in names:
            if getattr(step, name) == 0:
                yield f"{name} is 0"
    taps = step.kernel_height * step.kernel_width
    if isinstance(step, isa.Depthwise | isa.MaxPool) and taps > board.array.window_taps:
        yield f"a window of {taps} taps, {board.name} has {board.array.window_taps}"
    elementwise = isinstance(step, isa.Depthwise | isa.MaxPool | isa.Map | isa.Multiply)
    if elementwise and step.in_granules != step.out_granules:
        yield f"{step.in_granules} granules in, {step.out_granules} out"
    if isinstance(step, isa.Multiply) and (step.in_height, step.in_width) != (
        step.out_height,
        step.out_width,
    ):
        yield "its planes differ"


def _sums(step: isa.Conv | isa.Pack | isa.Depthwise, board: Board) -> Iterator[str]:
    array, taps = board.array, step.kernel_height * step.kernel_width
    if not 0 < step.steps <= MOST_STEPS:
        yield f"{step.steps} steps"
    elif isinstance(step, isa.Pack):
        patch = taps * step.channels
        if patch > array.patch_bytes or (step.dilation_height, step.dilation_width) != (1, 1):
            yield f"a patch of {patch} bytes"
        elif step.steps != -(-patch // array.reduction_lanes):
            yield f"{step.steps} steps for a patch of {patch} bytes"
    elif isinstance(step, isa.Depthwise):
        if taps and step.steps != window_steps(step, array):
            yield f"{step.steps} steps for {taps} taps"
    elif step.advance:
        if step.advance != 1 or step.steps != taps or step.in_granules < step.out_granules:
            yield f"advance={step.advance} with {step.steps} steps for {taps} taps"
    else:
        lanes = array.reduction_lanes // array.output_lanes
        if taps and step.steps != taps * -(-step.in_granules // lanes):
            yield f"{step.steps} steps for {taps} taps of {step.in_granules} granules"


def _check_placements(program: Program, board: Board) -> None:
    array = board.array
    for name, place in program.placements.items():
        bytes_in = place.width * place.channels
        granules = -(-(bytes_in if place.dense else place.channels) // array.output_lanes)
        line = granules if place.dense else (place.width - 1) * place.pixel + granules
        last = place.base + (place.height - 1 + place.rotation) // array.banks * place.row + line
        if place.rotation >= array.banks or last > board.memory.activation_granules:
            raise IsaError(f"tensor {name} reaches beyond activation memory")
