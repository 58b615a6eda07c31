"""What a program can run on: the interpreter, or an NPU."""

import weakref
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga.boards import Board
from edgekit_fpga.driver.npu import Host
from edgekit_fpga.driver.port import DeviceError
from edgekit_fpga.interpreter import Machine
from edgekit_fpga.package import Package

Int8 = NDArray[np.int8]
PART = 32  # elements interpreted at once: memory must not grow with the batch


class Backend(Protocol):
    """Runs the NPU stage of packages; called by one thread at a time."""

    @property
    def name(self) -> str:
        """`interpreter`, `rtl` or `board`."""
        ...

    def run(
        self, package: Package, stored: Mapping[str, Int8]
    ) -> tuple[Mapping[str, Int8], tuple[int, ...]]:
        """Run a batch.

        Args:
            package: the compiled model.
            stored: the NPU's inputs by name, (N, C, H, W).

        Returns:
            Its outputs by name, (N, C, H, W); the cycles of each element where they are counted.
        """
        ...

    def close(self) -> None:
        """Let go of whatever it holds."""
        ...


class Interpreter:
    """The integer interpreter, in numpy. Unpacks a package once, for as long as it is in use."""

    name = "interpreter"

    def __init__(self) -> None:
        self._machines: weakref.WeakKeyDictionary[Package, Machine] = weakref.WeakKeyDictionary()

    def run(
        self, package: Package, stored: Mapping[str, Int8]
    ) -> tuple[Mapping[str, Int8], tuple[int, ...]]:
        """Run a batch; cycles are not counted."""
        machine = self._machines.get(package)
        if machine is None:
            board = package.board
            machine = Machine(package.program, board.array, board.memory.activation_granules)
            self._machines[package] = machine
        outputs = tuple(package.manifest["npu"]["outputs"])
        batch = len(next(iter(stored.values())))
        parts = [
            machine.run({name: v[i : i + PART] for name, v in stored.items()}, outputs)
            for i in range(0, batch, PART)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in outputs}, ()

    def close(self) -> None:
        """Forget the packages."""
        self._machines.clear()


class Hardware:
    """An NPU behind a port, connected when it is first needed and again after an error.

    Args:
        name: of the backend.
        connect: opens the link to an NPU for a board.
    """

    def __init__(self, name: str, connect: Callable[[Board], Host]) -> None:
        self.name = name
        self._connect = connect
        self._npu: Host | None = None
        self._board: Board | None = None

    def run(
        self, package: Package, stored: Mapping[str, Int8]
    ) -> tuple[Mapping[str, Int8], tuple[int, ...]]:
        """Run a batch; the package is loaded first where the NPU has another.

        Raises:
            BoardError: the package was compiled for another array.
            DeviceError: the NPU or its link fails. The next run connects anew.
        """
        npu = self._connected(package.board)
        outputs = tuple(package.manifest["npu"]["outputs"])
        try:
            return npu.run(package.program, package.board, stored, outputs)
        except DeviceError:
            self.close()
            raise

    def _connected(self, board: Board) -> Host:
        if self._npu is None or self._board != board:
            self.close()
            self._npu, self._board = self._connect(board), board
        return self._npu

    def close(self) -> None:
        """Let go of the link."""
        npu, self._npu, self._board = self._npu, None, None
        if npu is not None:
            npu.close()
