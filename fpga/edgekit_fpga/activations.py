"""Activation memory: tensors in banks of granules, as docs/npu-isa.md lays them out."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga.arithmetic import Int8
from edgekit_fpga.errors import IsaError
from edgekit_fpga.program import Placement

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Region:
    """A tensor's place as an instruction describes it."""

    base: int
    row: int
    pixel: int
    rotation: int
    height: int
    width: int
    granules: int


class Activations:
    """The memories of a batch, one of `granules` granules of O = `lanes` bytes a bank for each."""

    def __init__(self, batch: int, banks: int, granules: int, lanes: int) -> None:
        self._content = np.zeros((batch, banks * granules, lanes), np.int8)
        self._banks, self._granules, self._lanes = banks, granules, lanes

    def read(self, region: Region) -> Int8:
        """(N, H, W, granules * O) of a region."""
        part: Int8 = self._content[:, self._indices(region)]
        return part.reshape(*part.shape[:3], -1)

    def write(self, region: Region, value: Int8) -> None:
        """Put (N, H, W, granules * O) into a region."""
        split = value.reshape(*value.shape[:3], region.granules, self._lanes)
        self._content[:, self._indices(region)] = split

    def read_dense(self, region: Region, channels: int) -> Int8:
        """(N, H, W, channels) of a region without padding between its pixels."""
        count = -(-region.width * channels // self._lanes)
        rows = Region(region.base, region.row, 1, region.rotation, region.height, count, 1)
        flat = self.read(rows).reshape(len(self._content), region.height, -1)
        used = flat[:, :, : region.width * channels]
        return used.reshape(len(used), region.height, region.width, channels)

    def store(self, place: Placement, value: Int8) -> None:
        """Put a tensor (N, C, H, W) where it belongs."""
        batch, channels, height, width = value.shape
        pixels = value.transpose(0, 2, 3, 1)
        if place.dense:
            count = -(-width * channels // self._lanes)
            flat = np.zeros((batch, height, count * self._lanes), np.int8)
            flat[:, :, : width * channels] = pixels.reshape(batch, height, -1)
            region = Region(place.base, place.row, 1, place.rotation, height, count, 1)
            self.write(region, flat.reshape(batch, height, count, self._lanes))
            return
        region = self._region(place)
        padded = np.zeros((batch, height, width, region.granules * self._lanes), np.int8)
        padded[..., :channels] = pixels
        self.write(region, padded)

    def fetch(self, place: Placement) -> Int8:
        """The tensor (N, C, H, W) that lies at a place."""
        value = self.read(self._region(place))[..., : place.channels]
        return np.ascontiguousarray(value.transpose(0, 3, 1, 2))

    def _region(self, place: Placement) -> Region:
        granules = -(-place.channels // self._lanes)
        return Region(
            place.base, place.row, place.pixel, place.rotation, place.height, place.width, granules
        )

    def _indices(self, region: Region) -> Indices:
        return _granule_indices(region, self._banks, self._granules)


@lru_cache(maxsize=4096)
def _granule_indices(region: Region, banks: int, granules: int) -> Indices:
    """Flat granule numbers (H, W, granules), bank-major: bank * size + granule in the bank.

    Raises:
        IsaError: the region reaches beyond its banks.
    """
    line = np.arange(region.height) + region.rotation
    inside = region.base + line // banks * region.row
    pixel = np.arange(region.width) * region.pixel
    part = np.arange(region.granules)
    last = int(inside.max(initial=0)) + int(pixel.max(initial=0)) + region.granules
    if last > granules:
        raise IsaError(f"a tensor at {region.base} reaches beyond activation memory")
    row = line % banks * granules + inside
    return row[:, None, None] + pixel[None, :, None] + part[None, None, :]
