"""The NPU: compiler, instruction set, interpreter and package format.

Running a package needs numpy alone; the compiler and the comparison import onnx and ONNX Runtime
when they are called.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgekit_fpga.package import Package, read_package
from edgekit_fpga.running import run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit_fpga.boards import Board
    from edgekit_fpga.comparing import Comparison

__all__ = ["Package", "compare", "compile_model", "read_package", "run"]


def compile_model(
    model: bytes, board: "str | Board" = "ecp5-85f", *, integer_averages: bool = False
) -> Package:
    """Compile an int8 ONNX model for a board; see `edgekit_fpga.compiler.compile_model`."""
    from edgekit_fpga.compiler import compile_model as compile_

    return compile_(model, board, integer_averages=integer_averages)


def compare(package: Package, model: bytes, inputs: "Mapping[str, NDArray[Any]]") -> "Comparison":
    """Compare a package with ONNX Runtime bit by bit; see `edgekit_fpga.comparing.compare`."""
    from edgekit_fpga.comparing import compare as compare_

    return compare_(package, model, inputs)
