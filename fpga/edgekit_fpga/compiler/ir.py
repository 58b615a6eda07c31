"""The compiler's one intermediate form: quantized tensors and a list of layers over them.

Every tensor is a signed int8 array of shape (C, H, W); a uint8 tensor is stored minus 128, as the
NPU stores it. A layer carries the constants of its requantization, so a graph can be executed
(`compiler.execute`) and compared after every pass.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga.arithmetic import Float32, Int8, Int64
from edgekit_fpga.errors import FpgaError

Shape = tuple[int, int, int]
# int8, or int16 until a pass parts them
Weights = NDArray[np.signedinteger[Any]]


@dataclass(frozen=True)
class Quantization:
    """real = scale * (q - zero_point), q stored signed; `unsigned`: the graph says uint8."""

    scale: np.float32
    zero_point: int
    unsigned: bool

    def __post_init__(self) -> None:
        if not np.isfinite(self.scale) or self.scale <= 0:
            raise FpgaError(f"scale {self.scale} is not a positive number")
        if not -128 <= self.zero_point <= 127:
            raise FpgaError(f"zero point {self.zero_point} is outside int8")

    @property
    def graph_zero_point(self) -> int:
        """The zero point as the ONNX graph has it."""
        return self.zero_point + (128 if self.unsigned else 0)


@dataclass(frozen=True)
class Tensor:
    """An activation tensor: its name in the ONNX graph, (C, H, W), its quantization.

    `view` says that it is some of the channels of another tensor: (that tensor, first channel).
    """

    name: str
    shape: Shape
    quantization: Quantization
    view: tuple[str, int] | None = None


@dataclass(frozen=True)
class Window:
    """Kernel, stride and dilation as (height, width); padding at the top and left."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad: tuple[int, int] = (0, 0)

    @property
    def taps(self) -> int:
        """How many input elements a window covers in a channel."""
        return self.kernel[0] * self.kernel[1]


@dataclass(frozen=True, eq=False)
class Requant:
    """Multiplier (float32, one a channel), zero point and clamp of a requantization."""

    multiplier: Float32
    zero_point: int
    low: int = -128
    high: int = 127


@dataclass(frozen=True, eq=False)
class Residual:
    """The fused add: its other operand, the add table and product constants, its result.

    `minus`: the graph subtracts its second operand; `swapped`: that is the one that flows by.
    """

    operand: str
    result: str
    table: Int64
    multiplier: int
    shift: int
    offset: int
    low: int
    high: int
    minus: bool = False
    swapped: bool = False


@dataclass(frozen=True, eq=False)
class Lookup:
    """A fused 256-entry table, indexed by the value's byte, and the tensor it makes."""

    result: str
    table: Int8


@dataclass(frozen=True, eq=False)
class GlobalPool:
    """The fused average over all pixels: bias (-zero point * pixels), requantization, result."""

    result: str
    bias: int
    requant: Requant


@dataclass(frozen=True, eq=False)
class Post:
    """What follows a layer's own result before it is written; each part may be missing."""

    lookup: Lookup | None = None
    residual: Residual | None = None
    pool: GlobalPool | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing follows."""
        return self.lookup is None and self.residual is None and self.pool is None


@dataclass(frozen=True, eq=False)
class Layer:
    """One step: `inputs` to `result`, then `post`; the last result is what is written."""

    node: str
    input: str
    result: str
    post: Post = field(default=Post(), kw_only=True)

    @property
    def output(self) -> str:
        """The tensor that reaches memory."""
        for part in (self.post.pool, self.post.residual, self.post.lookup):
            if part is not None:
                return part.result
        return self.result

    @property
    def inputs(self) -> tuple[str, ...]:
        """All tensors read from memory."""
        residual = self.post.residual
        return (self.input, residual.operand) if residual else (self.input,)


@dataclass(frozen=True, eq=False)
class Conv(Layer):
    """Convolution; weights (M, C / groups, KH, KW), bias (M,) without the zero point's part.

    Weights are int16 only where they came with a zero point and do not fit int8; a pass parts them.
    `products` are the model's own multiply-accumulates of an output pixel: one a weight, none in
    averages and where channels are only moved.
    """

    weights: Weights
    bias: Int64
    requant: Requant
    window: Window
    groups: int
    products: int

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates of the model for an output of this shape."""
        return self.products * shape[1] * shape[2]


@dataclass(frozen=True, eq=False)
class MaxPool(Layer):
    """The largest value of each window."""

    window: Window


@dataclass(frozen=True, eq=False)
class Copy(Layer):
    """Moves elements; with `post` it is the stand-alone table or add.

    Output pixel (y, x) is input pixel (y // repeat) * stride - pad; `pad_value` is stored where
    that lies outside, None standing for the zero point.
    """

    window: Window = Window()
    repeat: tuple[int, int] = (1, 1)
    pad_value: int | None = None

    @property
    def plain(self) -> bool:
        """Whether every element stays where it is."""
        return self.window == Window() and self.repeat == (1, 1)


@dataclass(frozen=True, eq=False)
class Multiply(Layer):
    """(a - za) * (b - zb) + bias, requantized by M * 2^-shift and a zero point; b is `operand`."""

    operand: str
    bias: int
    mantissa: int
    shift: int
    zero_point: int
    low: int = -128
    high: int = 127

    @property
    def inputs(self) -> tuple[str, ...]:
        """Both operands."""
        return (self.input, self.operand)


@dataclass(frozen=True, eq=False)
class Concat(Layer):
    """Joins the channels of `parts` (the first is `input`); becomes views before it is emitted."""

    parts: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """All parts."""
        return self.parts


@dataclass(frozen=True, eq=False)
class ChannelSlice(Layer):
    """Some channels, from `start` on; becomes a view before it is emitted."""

    start: int


@dataclass(frozen=True, eq=False)
class Flatten(Layer):
    """(C, H, W), axes reordered by `order`, to one axis; vanishes into the dense layer behind."""

    order: tuple[int, int, int] = (0, 1, 2)


@dataclass(frozen=True)
class Graph:
    """Tensors by name, layers in an order that can be executed, inputs and outputs by name."""

    tensors: Mapping[str, Tensor]
    layers: tuple[Layer, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def users(self, tensor: str) -> list[Layer]:
        """The layers that read `tensor`, or channels of it, from memory."""
        return [
            layer
            for layer in self.layers
            if any(tensor in self.views_up(name) for name in layer.inputs)
        ]

    def views_up(self, tensor: str) -> tuple[str, ...]:
        """The tensor, the one it is a view of, and so on up to one that is none."""
        names = [tensor]
        while view := self.tensors[names[-1]].view:
            names.append(view[0])
        return tuple(names)

    def root(self, tensor: str) -> tuple[str, int]:
        """The tensor that holds `tensor` in memory, and the channel it starts at there."""
        start = 0
        while view := self.tensors[tensor].view:
            tensor, start = view[0], start + view[1]
        return tensor, start

    def with_layers(self, layers: tuple[Layer, ...]) -> "Graph":
        """The same graph with other layers."""
        return replace(self, layers=layers)
