"""Operators that move elements: Pad, Resize, Slice, Split."""

import math
from typing import Any

import numpy as np

from edgekit_fpga.compiler import ir
from edgekit_fpga.compiler.builder import MOST_ELEMENTS, Builder, Node, Unsupported

Shape = tuple[int, ...]


def pad(b: Builder, node: Node) -> None:
    """Pad of height and width with a constant; negative pads crop."""
    if node.attributes.get("mode", b"constant") != b"constant":
        raise Unsupported(f"mode {node.attributes['mode'].decode()}")
    held = b.source(node.inputs[0])
    shape = b.shapes[node.inputs[0]]
    if len(node.inputs) > 1:
        pads = [int(size) for size in b.constant(node.inputs[1], "pads")]
    else:
        pads = [int(size) for size in node.attributes["pads"]]
    rank = len(shape) + 1
    if len(node.inputs) > 3 and node.inputs[3]:
        axes = [int(axis) % rank for axis in b.constant(node.inputs[3], "axes")]
        full = [0] * 2 * rank
        for index, axis in enumerate(axes):
            full[axis], full[rank + axis] = pads[index], pads[len(axes) + index]
        pads = full
    begin, end = pads[:rank], pads[rank:]
    if any((*begin[:2], *end[:2])):
        raise Unsupported("it pads the batch or the channels")
    made = tuple(size + begin[i] + end[i] for i, size in enumerate(shape, 1))
    top, left = (*begin[2:], 0, 0)[:2]
    _moved(b, node, held, made, ir.Window(pad=(top, left)), value=_pad_value(b, node, held))


def _pad_value(b: Builder, node: Node, held: str) -> int:
    """The padding as stored: the node's constant, quantized if the node works on real numbers."""
    quantization = b.tensors[held].quantization
    value: Any = node.attributes.get("value", 0.0)
    if len(node.inputs) > 2 and node.inputs[2]:
        name = node.inputs[2]
        value = b.constant(name, "value").reshape(())[()]
    if np.asarray(value).dtype.kind in "iu" and node.inputs[0] not in b.real:
        return int(value) - (128 if quantization.unsigned else 0)
    stored = np.rint(np.float32(value) / quantization.scale) + quantization.zero_point
    return int(np.clip(stored, -128, 127))


def resize(b: Builder, node: Node) -> None:
    """Resize to the nearest element by whole factors, up or down."""
    a = node.attributes
    if a.get("mode", b"nearest") != b"nearest":
        raise Unsupported(f"mode {a['mode'].decode()}")
    held = b.source(node.inputs[0])
    shape = b.shapes[node.inputs[0]]
    scales = b.constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
    if node.operator == "Upsample":
        scales = b.constant(node.inputs[1], "scales")
    sizes = b.constants.get(node.inputs[3]) if len(node.inputs) > 3 else None
    if sizes is not None and sizes.size:
        made = tuple(int(size) for size in sizes[1:])
        factors = [out / size for out, size in zip(made, shape, strict=True)]
    elif scales is not None and scales.size:
        factors = [float(scale) for scale in scales[1:]]
        made = tuple(int(np.floor(s * f)) for s, f in zip(shape, factors, strict=True))
    else:
        raise Unsupported("its sizes are not constants")
    if not 0 < math.prod(made) <= MOST_ELEMENTS:
        raise Unsupported(f"a tensor of {' x '.join(map(str, made))} elements")
    picks = [_nearest(node, s, m, f) for s, m, f in zip(shape, made, factors, strict=True)]
    if picks[0] != list(range(shape[0])):
        raise Unsupported("it resizes the channels")
    axes = [_regular(pick, size) for pick, size in zip(picks[1:], shape[1:], strict=True)]
    axes += [(1, 1, 0)] * (2 - len(axes))
    (repeat_h, stride_h, first_h), (repeat_w, stride_w, first_w) = axes
    window = ir.Window(stride=(stride_h, stride_w), pad=(-first_h, -first_w))
    _moved(b, node, held, made, window, repeat=(repeat_h, repeat_w))


def _nearest(node: Node, size: int, made: int, factor: float) -> list[int]:
    """The input index of each output index, by ONNX's definition."""
    a = node.attributes
    default = b"asymmetric" if node.operator == "Upsample" else b"half_pixel"
    place = a.get("coordinate_transformation_mode", default)
    out = np.arange(made, dtype=np.float64)
    match place:
        case b"asymmetric":
            position = out / factor
        case b"half_pixel" | b"half_pixel_symmetric":
            position = (out + 0.5) / factor - 0.5
        case b"pytorch_half_pixel":
            position = (out + 0.5) / factor - 0.5 if made > 1 else out * 0
        case b"align_corners" if made > 1:
            position = out * (size - 1) / (made - 1)
        case _:
            raise Unsupported(f"coordinates {place.decode()}")
    floor_like = b"floor" if node.operator == "Upsample" else b"round_prefer_floor"
    match a.get("nearest_mode", floor_like):
        case b"round_prefer_floor":
            index = np.ceil(position - 0.5)
        case b"round_prefer_ceil":
            index = np.floor(position + 0.5)
        case b"floor":
            index = np.floor(position)
        case _:
            index = np.ceil(position)
    return [int(i) for i in np.clip(index, 0, size - 1)]


def _regular(pick: list[int], size: int) -> tuple[int, int, int]:
    """(repeat, stride, first) with pick[i] = i // repeat * stride + first."""
    repeat = pick.count(pick[0]) if len(pick) > 1 else 1
    stride = pick[repeat] - pick[0] if len(pick) > repeat else 1
    first = pick[0]
    made = [i // repeat * stride + first for i in range(len(pick))]
    if made != pick or not 1 <= repeat <= 255 or not 1 <= stride <= 255:
        raise Unsupported(f"it resizes {size} elements to {len(pick)} irregularly")
    return repeat, stride, first


def slice_(b: Builder, node: Node) -> None:
    """Slice on channels, or on height and width with positive steps."""
    name = node.inputs[0]
    shape = b.shapes.get(name)
    if shape is None:
        raise Unsupported(f"its input {name} comes from nowhere")
    held = b.source(name)
    cuts = [(0, size, 1) for size in (1, *shape)]
    for axis, start, stop, step in _ranges(b, node, len(cuts)):
        if axis == 0 or step < 1:
            raise Unsupported("it slices the batch or steps backwards")
        size = shape[axis - 1]
        first, last, _ = slice(start, stop, step).indices(size)
        cuts[axis] = (first, max(last, first), step)
    sizes = tuple(-(-(stop - start) // step) for start, stop, step in cuts[1:])
    if 0 in sizes:
        raise Unsupported("nothing is left")
    _cut(b, node, held, node.outputs[0], cuts[1:], sizes)


def _ranges(b: Builder, node: Node, rank: int) -> list[tuple[int, int, int, int]]:
    axes: Any
    steps: Any = None
    if "starts" in node.attributes:
        starts, ends = node.attributes["starts"], node.attributes["ends"]
        axes = node.attributes.get("axes")
    else:
        starts, ends = (b.constant(name, "range") for name in node.inputs[1:3])
        axes = (
            b.constant(node.inputs[3], "axes") if len(node.inputs) > 3 and node.inputs[3] else None
        )
        steps = b.constant(node.inputs[4], "steps") if len(node.inputs) > 4 else None
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    return [
        (int(axis) % rank, int(start), int(stop), int(step))
        for axis, start, stop, step in zip(axes, starts, ends, steps, strict=True)
    ]


def split(b: Builder, node: Node) -> None:
    """Split on channels, height or width."""
    name = node.inputs[0]
    held = b.source(name)
    shape = b.shapes[name]
    axis = int(node.attributes.get("axis", 0)) % (len(shape) + 1)
    if axis == 0:
        raise Unsupported("it splits the batch")
    total, count = shape[axis - 1], len(node.outputs)
    sizes: Any = node.attributes.get("split")
    if len(node.inputs) > 1 and node.inputs[1]:
        sizes = b.constant(node.inputs[1], "sizes")
    if sizes is None:
        each = -(-total // count)
        sizes = [min(each, total - i * each) for i in range(count)]
    start = 0
    for made, size in zip(node.outputs, sizes, strict=True):
        cuts = [(0, full, 1) for full in shape]
        cuts[axis - 1] = (start, start + int(size), 1)
        out = (*shape[: axis - 1], int(size), *shape[axis:])
        _cut(b, node, held, made, cuts, out)
        start += int(size)


def _cut(
    b: Builder, node: Node, held: str, made: str, cuts: list[tuple[int, int, int]], sizes: Shape
) -> None:
    """A part of a tensor: first its channels, then its rows and columns."""
    view = b.quantized_output(node, made)
    (start, stop, step), *plane = [*cuts, *[(0, 1, 1)] * (3 - len(cuts))]
    if step != 1:
        raise Unsupported("it steps over channels")
    whole = b.tensors[held]
    spatial = any((first, s) != (0, 1) for first, _, s in plane) or sizes[1:] != tuple(
        whole.shape[1 : len(sizes)]
    )
    if (start, stop) != (0, whole.shape[0]):
        part = f"{view}/channels" if spatial else view
        b.add_tensor(part, (sizes[0], *whole.shape[1 : len(sizes)]), whole.quantization)
        b.layers.append(ir.ChannelSlice(node.name, held, part, start=start))
        held = part
    elif not spatial:
        b.make_alias(view, held, sizes)
        return
    if spatial:
        window = ir.Window(stride=(plane[0][2], plane[1][2]), pad=(-plane[0][0], -plane[1][0]))
        b.add_tensor(view, sizes, whole.quantization)
        b.layers.append(ir.Copy(node.name, held, view, window=window))


def _moved(
    b: Builder,
    node: Node,
    held: str,
    shape: Shape,
    window: ir.Window,
    *,
    repeat: tuple[int, int] = (1, 1),
    value: int | None = None,
) -> None:
    made = b.quantized_name(node)
    b.add_tensor(made, shape, b.tensors[held].quantization)
    b.layers.append(ir.Copy(node.name, held, made, window=window, repeat=repeat, pad_value=value))
    b.shapes[node.outputs[0]] = shape
