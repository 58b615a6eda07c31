"""Random programs for the RTL: layers of every kind, each with tensors of its own in memory."""

from dataclasses import dataclass, field

import numpy as np

from edgekit_fpga import isa
from edgekit_fpga.boards import COMPACT
from edgekit_fpga.program import Placement, Program, Trace, pack_entry
from edgekit_fpga.windows import tap_lanes, window_steps

KINDS = ("CONV", "DIAGONAL", "PACK", "DWCONV", "MAXPOOL", "MAP", "MUL")


@dataclass
class Generator:
    """Draws layers for one array and collects what they need in memory."""

    board: object
    seed: int
    instructions: list = field(default_factory=list)
    weights: list = field(default_factory=list)
    requant: list = field(default_factory=list)
    tables: list = field(default_factory=list)
    placements: dict = field(default_factory=dict)
    inputs: dict = field(default_factory=dict)
    outputs: list = field(default_factory=list)
    used: int = 0

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)
        self.array = self.board.array
        self.pools = self.array.core != COMPACT

    def number(self, low, high):
        return int(self.rng.integers(low, high + 1))

    def program(self, kinds):
        for kind in kinds:
            self.layer(kind)
        lanes = self.array.output_lanes, self.array.reduction_lanes
        return Program(
            (*self.instructions, isa.End()),
            np.concatenate([*self.weights, np.zeros((0, *lanes), np.int8)]).astype(np.int8),
            sum(map(len, self.weights)),
            np.concatenate([np.zeros(0, np.uint64), *self.requant]),
            np.concatenate([np.zeros(0, np.int64), *self.tables]),
            self.placements,
            tuple(Trace("layer") for _ in self.instructions),
        )

    # --- memories

    def place(self, channels, height, width, dense=False):
        """A tensor at a place of its own, with gaps and a rotation."""
        lanes, banks = self.array.output_lanes, self.array.banks
        granules = -(-channels // lanes)
        pixel = 1 if dense else granules + self.number(0, 2)
        line = -(-width * channels // lanes) if dense else width * pixel
        row = line + self.number(0, 2)
        rotation = self.number(0, banks - 1)
        base = self.used
        self.used += -(-(height + rotation) // banks) * row + self.number(0, 2)
        assert self.used <= self.board.memory.activation_granules
        return Placement(base, row, pixel, rotation, channels, height, width, dense)

    def input(self, channels, height, width, dense=False):
        place = self.place(channels, height, width, dense)
        name = f"in{len(self.inputs)}"
        self.placements[name] = place
        self.inputs[name] = self.rng.integers(-128, 128, (1, channels, height, width), np.int8)
        return place

    def table(self, low, high):
        if len(self.tables) < self.board.memory.table_entries // 256:
            self.tables.append(self.rng.integers(low, high, 256))
        return 256 * self.number(0, len(self.tables) - 1)

    def requantizers(self, tiles, reach):
        """Entries for sums of about `reach`, so that results spread over int8."""
        lanes = self.array.output_lanes
        base = sum(map(len, self.requant)) // lanes
        mantissa = self.rng.integers(2**23, 2**24, tiles * lanes)
        shift = 24 + np.maximum(int(np.log2(max(reach, 1) / 100.0 + 1)), 1)
        shift = np.clip(shift + self.rng.integers(-1, 2, tiles * lanes), 1, 63)
        bias = self.rng.integers(-reach - 1, reach + 1, tiles * lanes)
        self.requant.append(pack_entry(bias, mantissa, shift))
        return base

    def words(self, weights):
        """Put weight words (tiles * steps, O, I) into memory; where they begin."""
        base = sum(map(len, self.weights))
        self.weights.append(weights.astype(np.int8))
        return base

    # --- layers

    def layer(self, kind):
        fields = getattr(self, "_" + kind.lower())()
        name = fields.pop("name", kind)
        height, width = fields["out_height"], fields["out_width"]
        tiles = fields["out_granules"]
        low = self.number(-128, 20)
        fields |= {
            "zero_point": self.number(-128, 127), "low": low, "high": self.number(low, 127),
        }  # fmt: skip
        if self.number(0, 1):
            fields["low"], fields["high"] = -128, 127
        if kind != "MUL":
            if self.number(0, 3) == 0:
                fields |= {"table": 1, "table_base": self.table(-128, 128)}
            if self.number(0, 2) == 0:
                fields |= self._residual(tiles, height, width) | {"add": 1}
                fields |= self._adder()
        pool = kind in ("CONV", "PACK", "DWCONV") and self.number(0, 3) == 0 and self.pools
        out = self.place(tiles * self.array.output_lanes, *((1, 1) if pool else (height, width)))
        if pool:
            fields |= {
                "pool": 1, "pool_bias": self.number(-5000, 5000),
                "pool_multiplier": self.number(2**23, 2**24 - 1),
                "pool_shift": self.number(22, 30), "pool_zero_point": self.number(-128, 127),
                "pool_low": -128, "pool_high": self.number(0, 127),
            }  # fmt: skip
        fields |= {
            "out_base": out.base, "out_row": out.row, "out_pixel": out.pixel,
            "out_rotation": out.rotation,
        }  # fmt: skip
        result = f"out{len(self.outputs)}"
        self.placements[result] = out
        self.outputs.append(result)
        kinds = {entry.NAME: entry for entry in isa.KINDS}
        self.instructions.append(kinds[name](**fields))

    def _residual(self, tiles, height, width):
        place = self.input(tiles * self.array.output_lanes, height, width)
        return {
            "add_base": place.base, "add_row": place.row, "add_pixel": place.pixel,
            "add_rotation": place.rotation,
        }  # fmt: skip

    def _adder(self):
        shift = self.number(16, 36)
        multiplier = self.number(2 ** (shift - 2), 2 ** (shift - 1)) if shift < 26 else 2**24 - 1
        return {
            "add_multiplier": min(multiplier, 2**24 - 1), "add_shift": shift,
            "add_low": -128, "add_high": self.number(50, 127), "add_offset": self.number(-30, 30),
            "add_table": self.table(-(2**31), 2**31),
        }  # fmt: skip

    def _source(self, place, granules):
        return {
            "in_base": place.base, "in_row": place.row, "in_pixel": place.pixel,
            "in_rotation": place.rotation, "in_height": place.height, "in_width": place.width,
            "in_granules": granules, "pad_value": self.number(-128, 127),
        }  # fmt: skip

    def _window(self, most_taps=9, dilated=True):
        """Kernel, strides, dilations, padding, an input size and the output size they give."""
        while True:
            kernel = self.number(1, 5), self.number(1, 5)
            if kernel[0] * kernel[1] <= most_taps:
                break
        stride = self.number(1, 3), self.number(1, 3)
        dilation = (1, 1)
        if dilated and self.number(0, 2) == 0:
            dilation = self.number(1, 3), self.number(1, 3)
        before = self.number(0, 2), self.number(0, 2)
        size, result = [], []
        for axis in (0, 1):
            result.append(self.number(1, 6))
            span = (kernel[axis] - 1) * dilation[axis] + 1 + (result[axis] - 1) * stride[axis]
            size.append(max(1, span - before[axis] - self.number(0, 2)))
        return {
            "kernel_height": kernel[0], "kernel_width": kernel[1],
            "stride_height": stride[0], "stride_width": stride[1],
            "dilation_height": dilation[0], "dilation_width": dilation[1],
            "pad_top": before[0], "pad_left": before[1],
            "out_height": result[0], "out_width": result[1],
        }, size  # fmt: skip

    def _conv(self):
        lanes, reduction = self.array.output_lanes, self.array.reduction_lanes
        window, size = self._window()
        channels, tiles = self.number(1, 3 * lanes + reduction), self.number(1, 3)
        granules = -(-channels // lanes)
        blocks = -(-channels // reduction)
        taps = window["kernel_height"] * window["kernel_width"]
        weights = self.rng.integers(-128, 128, (tiles, taps, blocks, lanes, reduction))
        weights[:, :, -1, :, channels - (blocks - 1) * reduction :] = 0
        base = self.words(weights.reshape(-1, lanes, reduction))
        return {
            **self._source(self.input(granules * lanes, *size), granules), **window,
            "out_granules": tiles, "steps": taps * blocks, "weights": base,
            "requant": self.requantizers(tiles, 5000 * int(np.sqrt(taps * channels))),
        }  # fmt: skip

    def _diagonal(self):
        lanes, reduction = self.array.output_lanes, self.array.reduction_lanes
        window, size = self._window(25)
        tiles = self.number(1, 3)
        taps = window["kernel_height"] * window["kernel_width"]
        weights = np.zeros((tiles * taps, lanes, reduction), np.int64)
        weights[:, range(lanes), range(lanes)] = self.rng.integers(-128, 128, (tiles * taps, lanes))
        return {
            **self._source(self.input(tiles * lanes, *size), tiles), **window, "name": "CONV",
            "out_granules": tiles, "steps": taps, "weights": self.words(weights), "advance": 1,
            "requant": self.requantizers(tiles, 5000 * int(np.sqrt(taps))),
        }  # fmt: skip

    def _pack(self):
        lanes, reduction = self.array.output_lanes, self.array.reduction_lanes
        while True:
            window, size = self._window(dilated=False)
            channels = self.number(1, 4)
            taps = window["kernel_height"] * window["kernel_width"]
            if taps * channels <= self.array.patch_bytes:
                break
        tiles, steps = self.number(1, 3), -(-taps * channels // reduction)
        weights = self.rng.integers(-128, 128, (tiles, steps, lanes, reduction))
        weights[:, -1, :, taps * channels - (steps - 1) * reduction :] = 0
        return {
            **self._source(self.input(channels, *size, dense=True), 1), **window,
            "out_granules": tiles, "steps": steps, "channels": channels,
            "weights": self.words(weights.reshape(-1, lanes, reduction)),
            "requant": self.requantizers(tiles, 5000 * int(np.sqrt(taps * channels))),
        }  # fmt: skip

    def _dwconv(self):
        lanes, reduction = self.array.output_lanes, self.array.reduction_lanes
        window, size = self._window(self.array.window_taps)
        tiles = self.number(1, 5)
        taps = window["kernel_height"] * window["kernel_width"]
        layer = isa.Depthwise(**window)
        steps = window_steps(layer, self.array)
        weights = np.zeros((tiles, lanes, steps * reduction), np.int64)
        places = tap_lanes(layer, self.array).reshape(-1)
        weights[:, :, places] = self.rng.integers(-128, 128, (tiles, lanes, taps))
        words = weights.reshape(tiles, lanes, steps, reduction).transpose(0, 2, 1, 3)
        return {
            **self._source(self.input(tiles * lanes, *size), tiles), **window,
            "out_granules": tiles, "steps": steps,
            "weights": self.words(words.reshape(-1, lanes, reduction)),
            "requant": self.requantizers(tiles, 5000 * int(np.sqrt(taps))),
        }  # fmt: skip

    def _maxpool(self):
        window, size = self._window(self.array.window_taps)
        tiles = self.number(1, 5)
        source = self._source(self.input(tiles * self.array.output_lanes, *size), tiles)
        return {**source, **window, "pad_value": -128, "out_granules": tiles}

    def _map(self):
        lanes, tiles = self.array.output_lanes, self.number(1, 4)
        stride, repeat = self.number(1, 3), self.number(1, 3)
        place = self.input(tiles * lanes, self.number(1, 6), self.number(1, 6))
        return {
            **self._source(place, tiles), "out_granules": tiles,
            "out_height": self.number(1, 7), "out_width": self.number(1, 7),
            "kernel_height": 1, "kernel_width": 1,
            "stride_height": stride, "stride_width": self.number(1, 2),
            "dilation_height": 1, "dilation_width": 1,
            "repeat_height": repeat, "repeat_width": self.number(1, 3),
            "pad_top": self.number(-1, 2), "pad_left": self.number(-1, 2),
        }  # fmt: skip

    def _mul(self):
        lanes, tiles = self.array.output_lanes, self.number(1, 4)
        height, width = self.number(1, 6), self.number(1, 6)
        place = self.input(tiles * lanes, height, width)
        return {
            **self._source(place, tiles), **self._residual(tiles, height, width),
            "out_granules": tiles, "out_height": height, "out_width": width,
            "in_zero_point": self.number(-128, 127), "add_zero_point": self.number(-128, 127),
            "requant": self.requantizers(tiles, 10000),
        }  # fmt: skip
