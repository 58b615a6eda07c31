"""The proof that comes with a package: the hardware's integers equal ONNX Runtime's float32.

Requantization: both functions are monotone in the accumulator, so two that agree on every
accumulator near each of the at most 255 rounding thresholds agree everywhere. Adds: all 65,536
pairs. Pools: as requantization. Tables hold the function's own 256 values.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgekit_fpga.arithmetic import (
    Float32,
    Int64,
    Multiplier,
    float_requantize,
    requantize,
)
from edgekit_fpga.compiler import adds, ir, multiplies
from edgekit_fpga.errors import Problem, Refused

FLOAT32_INTEGERS = 1 << 24
# accumulators looked at on each side of a threshold's float64 position
REACH = 3


@dataclass(frozen=True)
class Proof:
    """What was proved: nothing in it may be false, or the compiler refuses the model."""

    channels: int
    thresholds: int
    pairs: int
    tables: int

    def as_dict(self) -> dict[str, Any]:
        """The proof as the manifest holds it."""
        return asdict(self)


def prove(graph: ir.Graph) -> Proof:
    """Prove every requantization, add and table of the graph.

    Raises:
        Refused: naming each layer whose fixed-point arithmetic is not the float32 formula.
    """
    channels = thresholds = pairs = tables = 0
    problems = []
    for layer in graph.layers:
        try:
            for low, high, requant in _requantizations(graph, layer):
                thresholds += check_requant(low, high, requant)
                channels += len(requant.multiplier)
            pairs += _check_pairs(graph, layer)
        except ValueError as error:
            problems.append(Problem(layer.node, type(layer).__name__, str(error)))
        if layer.post.lookup:
            tables += 1
    if problems:
        raise Refused(problems)
    return Proof(channels, thresholds, pairs, tables)


def _check_pairs(graph: ir.Graph, layer: ir.Layer) -> int:
    """Compare a layer's adder or product with its float32 formula on all 65,536 pairs."""
    tensors = graph.tensors
    if isinstance(layer, ir.Multiply):
        one, two = (tensors[name].quantization for name in layer.inputs)
        made = multiplies.all_pairs(layer, one, two)
        goal = multiplies.wanted(layer, one, two, tensors[layer.result].quantization)
    elif (add := layer.post.residual) is not None:
        flowing = layer.post.lookup.result if layer.post.lookup else layer.result
        names = (add.operand, flowing) if add.swapped else (flowing, add.operand)
        one, two = (tensors[name].quantization for name in names)
        made = adds.all_pairs(add)
        goal = adds.wanted(add, one, two, tensors[add.result].quantization)
    else:
        return 0
    if not np.array_equal(made, goal):
        raise ValueError("a pair on which fixed point and float32 differ")
    return goal.size


def _requantizations(graph: ir.Graph, layer: ir.Layer) -> list[tuple[Int64, Int64, ir.Requant]]:
    """Reachable range of the biased accumulator, and the constants, of each requantization."""
    found = []
    if isinstance(layer, ir.Conv):
        zero = graph.tensors[layer.input].quantization.zero_point
        flat = layer.weights.reshape(len(layer.weights), -1).astype(np.int64)
        ends = flat * (-128 - zero), flat * (127 - zero)
        low = np.minimum(*ends).sum(axis=1) + layer.bias
        high = np.maximum(*ends).sum(axis=1) + layer.bias
        found.append((low, high, layer.requant))
    if layer.post.pool:
        shape = graph.tensors[layer.result].shape
        pixels = shape[1] * shape[2]
        bias = np.array([layer.post.pool.bias])
        found.append((bias - 128 * pixels, bias + 127 * pixels, layer.post.pool.requant))
    return found


def check_requant(low: Int64, high: Int64, requant: ir.Requant) -> int:
    """Compare integers with float32 at every threshold of every channel.

    Args:
        low: smallest reachable accumulator of each channel, bias included.
        high: the largest.
        requant: multiplier (one a channel), zero point and clamp.

    Returns:
        How many thresholds were compared.

    Raises:
        ValueError: an accumulator on which the two differ, or could.
    """
    mantissa, shift = _constants(requant.multiplier)
    multiplier = requant.multiplier
    limits = requant.zero_point, requant.low, requant.high
    step = np.arange(requant.low, requant.high, dtype=np.int64) - requant.zero_point
    with np.errstate(divide="ignore", over="ignore"):
        crossing = (step[None, :] + 0.5) / multiplier.astype(np.float64)[:, None]
    crossing = np.clip(np.nan_to_num(crossing), low[:, None] - 8.0, high[:, None] + 8.0)
    near = np.floor(crossing).astype(np.int64)[..., None] + np.arange(-REACH, REACH + 2)
    near = np.clip(near, low[:, None, None], high[:, None, None])
    ends = np.stack([low, high], axis=1)[:, None, :]
    for points in (near, ends):
        in_integers = requantize(points, mantissa[:, None, None], shift[:, None, None], *limits)
        in_floats = float_requantize(points, multiplier[:, None, None], *limits)
        if not np.array_equal(in_integers, in_floats):
            channel = int(np.argwhere(in_integers != in_floats)[0][0])
            raise ValueError(f"channel {channel}: fixed point and float32 differ")
    _check_crossings(near, low, high, requant, step)
    _check_large(low, high, requant)
    return int(near.shape[0] * near.shape[1])


def _constants(multiplier: Float32) -> tuple[Int64, Int64]:
    made = [Multiplier.of(float(value)) for value in multiplier]
    return (
        np.array([one.mantissa for one in made], np.int64),
        np.array([one.shift for one in made], np.int64),
    )


def _check_crossings(
    near: Int64, low: Int64, high: Int64, requant: ir.Requant, step: Int64
) -> None:
    """Each reachable threshold lies between the first and the last accumulator looked at."""
    limits = requant.zero_point, requant.low, requant.high
    ends = near[..., [0, -1]]
    values = float_requantize(ends, requant.multiplier[:, None, None], *limits).astype(np.int64)
    wanted = step[None, :] + requant.zero_point
    before = (values[..., 0] <= wanted) | (ends[..., 0] == low[:, None])
    behind = (values[..., 1] > wanted) | (ends[..., 1] == high[:, None])
    if not (before & behind).all():
        raise ValueError("a rounding threshold is not where it is looked for")


def _check_large(low: Int64, high: Int64, requant: ir.Requant) -> None:
    """Beyond 2^24 float32 skips integers: there the result must have saturated long before."""
    limits = requant.zero_point, requant.low, requant.high
    edge = np.full(len(low), FLOAT32_INTEGERS - 1)
    for reach, sign, end in ((high, 1, requant.high), (-low, -1, requant.low)):
        if (beyond := reach >= FLOAT32_INTEGERS).any():
            values = float_requantize(sign * edge, requant.multiplier, *limits)
            if (values[beyond] != end).any():
                raise ValueError("accumulators beyond 2^24 that do not saturate")
