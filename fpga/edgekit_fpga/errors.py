"""Every error the FPGA house raises on purpose, and what a caller can do about each.

- FpgaError
  - GraphError: the ONNX file is no graph this compiler reads
    - Refused: a graph with nodes the NPU cannot run; `problems` names every one of them
  - BoardError: no such board, or the model does not fit it
  - PackageError: the package is damaged, altered or made for something else
  - InputError: the arrays given do not fit the model's inputs
  - IsaError: bytes or text that are no instruction
"""

from collections.abc import Sequence
from dataclasses import dataclass


class FpgaError(Exception):
    """The root of the FPGA house's errors.

    Args:
        message: what is wrong and where, one line, no full stop at its end.
        hint: the next thing to try; may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        # names come from files of any origin; what is not printable stays off the terminal
        shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in message)
        super().__init__(shown)
        self.hint = hint


class GraphError(FpgaError):
    """The ONNX file is no graph this compiler reads."""


@dataclass(frozen=True)
class Problem:
    """One node the compiler refuses: its name, its operator and why."""

    node: str
    operator: str
    reason: str

    def __str__(self) -> str:
        return f"{self.node} ({self.operator}): {self.reason}"


class Refused(GraphError):
    """A graph with nodes the NPU cannot run; `problems` names every one of them."""

    def __init__(self, problems: Sequence[Problem], hint: str = "") -> None:
        nodes = "node" if len(problems) == 1 else "nodes"
        listed = "; ".join(str(problem) for problem in problems)
        super().__init__(f"the NPU cannot run {len(problems)} {nodes}: {listed}", hint)
        self.problems = tuple(problems)


class BoardError(FpgaError):
    """No such board, or the model does not fit it."""


class PackageError(FpgaError):
    """The package is damaged, altered or made for something else."""


class InputError(FpgaError):
    """The arrays given do not fit the model's inputs."""


class IsaError(FpgaError):
    """Bytes or text that are no instruction."""
