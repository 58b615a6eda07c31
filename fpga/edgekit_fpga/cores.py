"""What an instruction asks for that the core of a board leaves out; docs/npu-rtl.md lists it."""

from collections.abc import Iterator

from edgekit_fpga import isa
from edgekit_fpga.boards import COMPACT, Board


def lacking(step: isa.Instruction, board: Board) -> Iterator[str]:
    """What `step` needs and the board's core has not, as parts of a sentence."""
    if board.array.core != COMPACT or not isinstance(step, isa.Layer):
        return
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
