"""The port every NPU is driven through: its registers and its two streams.

It is what `rtl/npu_axi.sv` offers: AXI4-Lite for control, AXI4-Stream for data. A simulator and a
board differ in the link that carries it, and in nothing else.
"""

from enum import IntEnum
from typing import Protocol

from edgekit_fpga.errors import FpgaError

WORD_BYTES = 4
ID = 0x4E505531  # "NPU1"
BUSY, ERROR = 1, 2  # bits of STATUS


class Register(IntEnum):
    """Addresses of the registers; the header of `rtl/npu_axi.sv` says what each is."""

    ID = 0x00
    VERSION = 0x04
    ARRAY = 0x08
    SHAPE = 0x0C
    GRANULES = 0x10
    WEIGHT_WORDS = 0x14
    REQUANT_TILES = 0x18
    TABLE_ENTRIES = 0x1C
    INSTRUCTIONS = 0x20
    CONTROL = 0x24
    STATUS = 0x28
    CYCLES = 0x2C
    TARGET = 0x30
    TARGET_ADDRESS = 0x34
    READ_ADDRESS = 0x38
    READ_COUNT = 0x3C


class DeviceError(FpgaError):
    """The NPU or the link to it does not do what it must."""


class LinkError(DeviceError):
    """The link is broken: it does not open, is silent, or brings what cannot be."""


class Port(Protocol):
    """An NPU's registers and streams. Data are whole 32-bit words, little-endian."""

    def read(self, register: Register) -> int:
        """The value of a register.

        Raises:
            LinkError: no answer, or one that cannot be.
        """
        ...

    def write(self, register: Register, value: int) -> None:
        """Set a register.

        Raises:
            DeviceError: the NPU refuses it (SLVERR), as it does for controls while it is busy.
            LinkError: no answer, or one that cannot be.
        """
        ...

    def send(self, data: bytes) -> None:
        """Stream words in; returns when the link has taken all of them.

        Raises:
            LinkError: the NPU stopped taking them.
        """
        ...

    def receive(self, words: int) -> bytes:
        """Take words of the stream out, as many as READ_COUNT announced.

        Raises:
            LinkError: they do not come.
        """
        ...

    def close(self) -> None:
        """Let go of the link; the NPU keeps what it has."""
        ...
