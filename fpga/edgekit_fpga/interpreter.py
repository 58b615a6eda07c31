"""The meaning of a program: every instruction on activation memory, in numpy.

Normative: the RTL is held against it bit by bit. It works tensor by tensor over a batch, reads and
writes activation memory by the instructions' own descriptors, and computes with exact integers.
Sums run in float32 or float64 only where every partial sum is an integer they hold exactly.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga import isa
from edgekit_fpga.activations import Activations, Region
from edgekit_fpga.arithmetic import (
    Int8,
    fixed_add,
    float_requantize,
    requantize,
    round_fixed,
)
from edgekit_fpga.boards import Array
from edgekit_fpga.errors import IsaError
from edgekit_fpga.program import Program, unpack_entry
from edgekit_fpga.windows import tap_lanes

Numbers = NDArray[Any]
FLOAT32_EXACT = 1 << 24
# elements that are computed at a time: more are no faster, and take more memory
BATCH = 32


def batches(arrays: Mapping[str, Numbers], size: int) -> Iterator[dict[str, Numbers]]:
    """Arrays that share a first axis, in parts of at most `size` along it."""
    for start in range(0, len(next(iter(arrays.values()))), size):
        yield {name: value[start : start + size] for name, value in arrays.items()}


@dataclass(eq=False)
class Machine:
    """A program bound to an array: weights and tables unpacked once, then run on any batch.

    Args:
        program: what to run.
        array: the array it was compiled for.
        granules: size of activation memory, granules a bank.
        exact: requantize in integers as the hardware does, not through float32. The two are equal
            (the package's proof says so for each of its channels); the integers are slower.
    """

    program: Program
    array: Array
    granules: int
    exact: bool = False

    def __post_init__(self) -> None:
        self._bias, self._mantissa, self._shift = unpack_entry(self.program.requant)
        self._multiplier = np.ldexp(self._mantissa.astype(np.float64), -self._shift).astype(
            np.float32
        )
        self._pairs: dict[tuple[int, ...], Int8] = {}

    def run(
        self,
        inputs: Mapping[str, Int8],
        outputs: tuple[str, ...],
        observe: Callable[[str, Int8], None] | None = None,
    ) -> dict[str, Int8]:
        """Run the program on a batch.

        Args:
            inputs: tensor name -> stored int8 (N, C, H, W), for every tensor the program reads.
            outputs: the tensors to read from memory at the end.
            observe: called with the name and value of every tensor an instruction makes.

        Returns:
            Tensor name -> int8 (N, C, H, W).
        """
        batch = len(next(iter(inputs.values())))
        if batch > BATCH and observe is None:
            parts = [self.run(part, outputs) for part in batches(inputs, BATCH)]
            return {name: np.concatenate([part[name] for part in parts]) for name in outputs}
        memory = Activations(batch, self.array.banks, self.granules, self.array.output_lanes)
        places = self.program.placements
        for name, value in inputs.items():
            memory.store(places[name], value)
        weights = self.program.weights[: self.program.resident]
        streamed = self.program.resident
        step = 0
        for index, instruction in enumerate(self.program.instructions):
            if isinstance(instruction, isa.End):
                break
            if isinstance(instruction, isa.Load):
                part = self.program.weights[streamed : streamed + instruction.count]
                weights = _loaded(weights, instruction.weights, part)
                streamed += instruction.count
                continue
            assert isinstance(instruction, isa.Layer)
            made = self._layer(index, instruction, memory, weights)
            if observe is not None:
                self._observe(step, made, memory, observe)
            step += 1
        return {name: memory.fetch(places[name]) for name in outputs}

    # --- instructions -----------------------------------------------------------------------

    def _layer(
        self, index: int, layer: isa.Layer, memory: Activations, weights: Int8
    ) -> dict[str, Int8]:
        """Carry out one instruction; the values of its steps by the name of the step."""
        made: dict[str, Int8] = {}
        out = Region(
            layer.out_base,
            layer.out_row,
            layer.out_pixel,
            layer.out_rotation,
            layer.out_height,
            layer.out_width,
            layer.out_granules,
        )
        second = None
        if layer.add or isinstance(layer, isa.Multiply):
            place = Region(
                layer.add_base, layer.add_row, layer.add_pixel, layer.add_rotation,
                out.height, out.width, out.granules,
            )  # fmt: skip
            second = memory.read(place)
        value = made["own"] = self._own(index, layer, memory, weights, second)
        if layer.table:
            entries = self.program.tables[layer.table_base : layer.table_base + 256]
            value = made["table"] = entries.astype(np.uint8).view(np.int8)[value.view(np.uint8)]
        if layer.add:
            assert second is not None
            value = made["add"] = self._add(layer, value, second)
        if layer.pool:
            value = made["pool"] = self._pool(layer, value)
            out = Region(out.base, out.row, out.pixel, out.rotation, 1, 1, out.granules)
        memory.write(out, value)
        return made

    def _own(
        self, index: int, layer: isa.Layer, memory: Activations, weights: Int8, second: Int8 | None
    ) -> Int8:
        if isinstance(layer, isa.Conv | isa.Pack | isa.Depthwise):
            return self._requantize(layer, self._accumulate(index, layer, memory, weights))
        source = memory.read(_input(layer, layer.in_granules))
        if isinstance(layer, isa.MaxPool):
            largest: Int8 = np.maximum.reduce([tap for _, _, tap in _taps(layer, source)])
            return largest
        if isinstance(layer, isa.Multiply):
            assert second is not None
            first = source.astype(np.int64) - layer.in_zero_point
            return self._requantize(layer, first * (second.astype(np.int64) - layer.add_zero_point))
        assert isinstance(layer, isa.Map)
        return _mapped(layer, source)

    def _accumulate(
        self,
        index: int,
        layer: isa.Conv | isa.Pack | isa.Depthwise,
        memory: Activations,
        weights: Int8,
    ) -> Numbers:
        """The accumulators (N, H, W, tiles * O) without bias, exact integers in some dtype."""
        lanes, reduction = self.array.output_lanes, self.array.reduction_lanes
        used = weights[layer.weights : layer.weights + layer.out_granules * layer.steps]
        if len(used) < layer.out_granules * layer.steps:
            raise IsaError(f"instruction {index} reads weights beyond their memory")
        tiles = used.reshape(layer.out_granules, layer.steps, lanes, reduction)
        if isinstance(layer, isa.Depthwise):
            return self._depthwise(layer, memory, tiles)
        taps = layer.kernel_height * layer.kernel_width
        if isinstance(layer, isa.Conv) and layer.advance:
            return self._diagonal(layer, memory, tiles, taps)
        if isinstance(layer, isa.Pack):
            channels = layer.channels
            source = memory.read_dense(_input(layer, 1), channels)
            flat = tiles.transpose(1, 3, 0, 2).reshape(layer.steps * reduction, -1)
            matrix = flat[: taps * channels].reshape(taps, channels, -1)
        else:
            source = memory.read(_input(layer, layer.in_granules))
            blocks = layer.steps // taps
            split = tiles.reshape(layer.out_granules, taps, blocks, lanes, reduction)
            full = split.transpose(1, 2, 4, 0, 3).reshape(taps, blocks * reduction, -1)
            matrix = full[:, : source.shape[-1]]
        kind = _exact_float(matrix)
        factors = matrix.astype(kind)
        padded = _padded(layer, source).astype(kind)
        size = (len(source) * layer.out_height * layer.out_width, source.shape[-1])
        total = np.zeros((size[0], factors.shape[-1]), kind)
        for number, (_, _, tap) in enumerate(_slices(layer, padded)):
            total += tap.reshape(size) @ factors[number]
        return total.reshape(len(source), layer.out_height, layer.out_width, -1)

    def _depthwise(self, layer: isa.Depthwise, memory: Activations, tiles: Int8) -> Numbers:
        source = memory.read(_input(layer, layer.out_granules))
        factors = tiles.transpose(1, 3, 0, 2).reshape(-1, source.shape[-1]).astype(np.float32)
        lanes = tap_lanes(layer, self.array)
        shape = (len(source), layer.out_height, layer.out_width, source.shape[-1])
        total = np.zeros(shape, np.float32)
        padded = _padded(layer, source).astype(np.float32)
        for ky, kx, tap in _slices(layer, padded):
            total += tap * factors[lanes[ky, kx]]
        return total

    def _diagonal(self, layer: isa.Conv, memory: Activations, tiles: Int8, taps: int) -> Numbers:
        lanes = self.array.output_lanes
        if layer.advance != 1 or layer.steps != taps:
            raise IsaError(f"CONV: advance={layer.advance} with {layer.steps} steps")
        source = memory.read(_input(layer, layer.in_granules))
        shape = (len(source), layer.out_height, layer.out_width, layer.out_granules, lanes)
        total = np.zeros(shape, np.int64)
        padded = _padded(layer, source)
        factors = tiles[..., :lanes].astype(np.int64)
        for number, (_, _, tap) in enumerate(_slices(layer, padded)):
            granules = tap.reshape(*tap.shape[:3], -1, lanes)[..., : layer.out_granules, :]
            total += np.einsum("nyxti,toi->nyxto", granules.astype(np.int64), factors[:, number])
        return total.reshape(*shape[:3], -1)

    def _requantize(self, layer: isa.Layer, total: Numbers) -> Int8:
        lanes = self.array.output_lanes
        used = slice(layer.requant * lanes, (layer.requant + layer.out_granules) * lanes)
        limits = layer.zero_point, layer.low, layer.high
        if self.exact or total.dtype == np.int64:
            whole = total.astype(np.int64) + self._bias[used]
            return requantize(whole, self._mantissa[used], self._shift[used], *limits)
        bias = self._bias[used]
        if np.abs(bias).max(initial=0) >= FLOAT32_EXACT // 2:
            total = total.astype(np.float64)
        total += bias.astype(total.dtype)
        return float_requantize(total, self._multiplier[used], *limits)

    def _add(self, layer: isa.Layer, value: Int8, second: Int8) -> Int8:
        index = value.view(np.uint8).astype(np.uint16) << 8 | second.view(np.uint8)
        result: Int8 = self._sums(layer)[index]
        return result

    def _sums(self, layer: isa.Layer) -> Int8:
        """The adder's results for all pairs, flat, the first operand in the high byte."""
        constants = (
            layer.add_multiplier,
            layer.add_shift,
            layer.add_offset,
            layer.add_low,
            layer.add_high,
        )
        key = (layer.add_table, *constants)
        if key not in self._pairs:
            entries = self.program.tables[layer.add_table : layer.add_table + 256]
            grid = np.arange(256, dtype=np.uint8).view(np.int8)
            first = np.broadcast_to(grid[:, None], (256, 256))
            self._pairs[key] = fixed_add(first, entries[None, :], *constants).reshape(-1)
        return self._pairs[key]

    def _pool(self, layer: isa.Layer, value: Int8) -> Int8:
        total = value.sum(axis=(1, 2), dtype=np.int64, keepdims=True) + layer.pool_bias
        rounded = round_fixed(total * layer.pool_multiplier, layer.pool_shift)
        limited = np.clip(rounded + layer.pool_zero_point, layer.pool_low, layer.pool_high)
        return limited.astype(np.int8)

    def _observe(
        self,
        step: int,
        made: Mapping[str, Int8],
        memory: Activations,
        observe: Callable[[str, Int8], None],
    ) -> None:
        trace = self.program.traces[step]
        last = trace.pool or trace.add or trace.table or trace.own
        for kind, value in made.items():
            name = getattr(trace, kind)
            if name == last and name in self.program.placements:
                # a layer in parts makes the whole tensor only in memory
                observe(name, memory.fetch(self.program.placements[name]))
            elif name:
                observe(name, value.transpose(0, 3, 1, 2))


def _loaded(weights: Int8, start: int, part: Int8) -> Int8:
    """Weight memory with `part` from word `start` on; it grows to hold it."""
    missing = max(start + len(part) - len(weights), 0)
    made = np.concatenate([weights, np.zeros((missing, *weights.shape[1:]), np.int8)])
    made[start : start + len(part)] = part
    return made


def _input(layer: isa.Layer, granules: int) -> Region:
    return Region(
        layer.in_base,
        layer.in_row,
        layer.in_pixel,
        layer.in_rotation,
        layer.in_height,
        layer.in_width,
        granules,
    )


def _padded(layer: isa.Layer, source: Int8) -> Int8:
    """The part of the plane the windows touch, `pad_value` outside the input."""
    need_h = (layer.out_height - 1) * layer.stride_height + (
        layer.kernel_height - 1
    ) * layer.dilation_height
    need_w = (layer.out_width - 1) * layer.stride_width + (
        layer.kernel_width - 1
    ) * layer.dilation_width
    return _plane(source, -layer.pad_top, -layer.pad_left, need_h + 1, need_w + 1, layer.pad_value)


def _plane(source: Int8, top: int, left: int, height: int, width: int, pad: int) -> Int8:
    """Rows top ... top + height - 1 and columns likewise of (N, H, W, C), padded."""
    batch, rows, columns, channels = source.shape
    if (top, left, height, width) == (0, 0, rows, columns):
        return source
    plane = np.full((batch, height, width, channels), pad, np.int8)
    y, x = max(-top, 0), max(-left, 0)
    part = source[:, max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    plane[:, y : y + part.shape[1], x : x + part.shape[2]] = part
    return plane


def _slices(layer: isa.Layer, plane: Numbers) -> list[tuple[int, int, Numbers]]:
    """The elements under each tap, (N, out_height, out_width, C), taps in order ky, kx."""
    out = []
    for ky in range(layer.kernel_height):
        for kx in range(layer.kernel_width):
            y, x = ky * layer.dilation_height, kx * layer.dilation_width
            rows = slice(
                y, y + (layer.out_height - 1) * layer.stride_height + 1, layer.stride_height
            )
            columns = slice(
                x, x + (layer.out_width - 1) * layer.stride_width + 1, layer.stride_width
            )
            out.append((ky, kx, plane[:, rows, columns]))
    return out


def _taps(layer: isa.Layer, source: Int8) -> list[tuple[int, int, Int8]]:
    return _slices(layer, _padded(layer, source))


def _mapped(layer: isa.Map, source: Int8) -> Int8:
    rows = np.arange(layer.out_height) // layer.repeat_height * layer.stride_height - layer.pad_top
    columns = np.arange(layer.out_width) // layer.repeat_width * layer.stride_width - layer.pad_left
    inside_y = (rows >= 0) & (rows < source.shape[1])
    inside_x = (columns >= 0) & (columns < source.shape[2])
    picked = source[:, np.where(inside_y, rows, 0)][:, :, np.where(inside_x, columns, 0)]
    inside = inside_y[:, None] & inside_x[None, :]
    result: Int8 = np.where(inside[None, :, :, None], picked, np.int8(layer.pad_value))
    return result


def _exact_float(matrix: Int8) -> type[np.float32] | type[np.float64]:
    """float32 where every partial sum with int8 inputs is an integer below 2^24."""
    bound = np.abs(matrix.astype(np.int64)).sum(axis=(0, 1)).max(initial=0) * 128
    # half of the room is for the bias, which joins the sum before it is rounded
    return np.float32 if bound < FLOAT32_EXACT // 2 else np.float64
