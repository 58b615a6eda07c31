"""What an instruction asks for that the core of a board leaves out; docs/npu-rtl.md lists it."""

from collections.abc import Iterator

from edgekit_fpga import isa
from edgekit_fpga.boards import COMPACT, Board

# heights, widths and channels of the compact core's tensors
MOST = 4095


def lacking(step: isa.Instruction, board: Board) -> Iterator[str]:
    """What `step` needs and the board's core has not, as parts of a sentence."""
    if board.array.core != COMPACT or not isinstance(step, isa.Layer):
        return
    for name in ("in_height", "in_width", "in_granules", "out_height", "out_width", "out_granules"):
        if getattr(step, name) > MOST:
            yield f"{name} is {getattr(step, name)}, {board.name} counts to {MOST}"
    reach = max(map(abs, (step.pad_top, step.pad_left)))
    if not isinstance(step, isa.Map | isa.Multiply):
        reach = max(
            reach,
            (step.kernel_height - 1) * step.dilation_height,
            (step.kernel_width - 1) * step.dilation_width,
        )
    if reach > MOST // 2:
        yield f"a window reaches {reach} beyond its pixel, {board.name} counts to {MOST // 2}"
    if isinstance(step, isa.Pack) and step.in_width * step.channels > MOST:
        yield f"a row of {step.in_width * step.channels} bytes, {board.name} counts to {MOST}"
    if step.pool:
        yield f"{board.name} has no adder for all pixels of a result"
    if isinstance(step, isa.Conv):
        operand = step.steps * board.array.reduction_lanes
        if step.advance:
            taps = step.kernel_height * step.kernel_width
            yield f"a window of {taps} taps, {board.name} has {board.array.window_taps}"
        elif operand > board.array.patch_bytes:
            yield (
                f"one result takes {operand} bytes of input, {board.name} holds "
                f"{board.array.patch_bytes}"
            )
