"""Random int8 graphs over the compiler's whole operator list, as QOperator and as QDQ.

`random_graph(seed)` gives the same graph for the same seed; a failing test prints its seed.
`features(model)` names what a graph uses; `FEATURES` is all that must occur.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
UNARY = ("Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "LeakyRelu", "Relu", "Clip")
# the compiler's operator list by the names of float ONNX, and the ways they are quantized
FEATURES = {
    *("Conv", "depthwise Conv", "grouped Conv", "1-D Conv", "dilated Conv", "strided Conv"),
    *("Gemm", "MatMul", "Add", "Mul", "Sub", "Concat", "MaxPool", "AveragePool"),
    *("GlobalAveragePool", *UNARY, "Pad", "Flatten", "Reshape", "Squeeze", "Unsqueeze"),
    *("Transpose", "Resize", "Split", "Slice", "Softmax"),
    *("QOperator", "QDQ", "int8", "uint8", "uint8 weights", "per channel", "per tensor"),
}


class RandomGraph:
    """A graph under construction: quantized tensors by name with shape, scale, zero point."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.kind = self.random.choice([np.int8, np.uint8])
        self.qdq = 0.5
        self.nodes, self.constants, self.live = [], [], []
        self.count = 0

    def name(self, hint):
        self.count += 1
        return f"{hint}{self.count}"

    def constant(self, value):
        name = self.name("c")
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def quantization(self, low=0.01, high=0.2):
        limits = np.iinfo(self.kind)
        scale = np.float32(self.random.uniform(low, high))
        return scale, self.kind(self.random.integers(limits.min, limits.max + 1))

    def names(self, quantization):
        return [self.constant(quantization[0]), self.constant(quantization[1])]

    def node(self, operator, inputs, quantization, shape, domain="", outputs=None, **attributes):
        made = outputs or [self.name(operator.lower())]
        self.nodes.append(
            helper.make_node(operator, inputs, made, name=made[0], domain=domain, **attributes)
        )
        if not outputs:
            self.live.append((made[0], shape, quantization))
        return made[0]

    def real(self, name, quantization, **attributes):
        """A quantized tensor, or constant, through DequantizeLinear."""
        made = self.name("real")
        inputs = [name, *self.names(quantization)]
        return self.node("DequantizeLinear", inputs, None, None, outputs=[made], **attributes)

    def floating(self, operator, inputs, target, shape, **attributes):
        """A float node on real tensors, its result quantized as `target`."""
        made = self.name("float")
        self.node(operator, inputs, None, None, outputs=[made], **attributes)
        return self.node("QuantizeLinear", [made, *self.names(target)], target, shape)

    def moving(self, operator, name, inputs, quantization, shape, **attributes):
        """A node that only moves elements: on integers, or between DQ and Q of one quantization."""
        if self.chance(self.qdq):
            real = self.real(name, quantization)
            return self.floating(operator, [real, *inputs], quantization, shape, **attributes)
        return self.node(operator, [name, *inputs], quantization, shape, **attributes)

    def pick(self):
        """A live tensor; later ones are likelier, so that graphs grow deep."""
        place = int(len(self.live) * self.random.beta(3, 1))
        return self.live[min(place, len(self.live) - 1)]

    def chance(self, probability):
        return self.random.random() < probability

    def window(self, size, taps=4):
        """Kernel, stride, dilation and padding that fit a plane, and the resulting plane."""
        while True:
            kernel = [int(self.random.integers(1, taps)) for _ in size]
            strides = [int(self.random.integers(1, 3)) for _ in size]
            dilations = [int(self.random.integers(1, 3)) if self.chance(0.3) else 1 for _ in size]
            pads = [int(self.random.integers(0, k)) for k in kernel * 2]
            spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
            room = [
                s + pads[i] + pads[i + len(size)] - span
                for i, (s, span) in enumerate(zip(size, spans, strict=True))
            ]
            if min(room) >= 0:
                out = [r // s + 1 for r, s in zip(room, strides, strict=True)]
                return {
                    "kernel_shape": kernel,
                    "strides": strides,
                    "dilations": dilations,
                    "pads": pads,
                }, out

    # --- operators ------------------------------------------------------------------------------

    def weights(self, shape, channels):
        """Stored weights, scale (one a channel or one), zero point (one)."""
        scales = self.random.uniform(0.001, 0.01, channels).astype(np.float32)
        if channels == 1 or self.chance(0.3):
            scales = scales[:1].reshape(())
        if self.kind == np.uint8 and self.chance(0.4):
            zero = self.random.choice([0, 60, 120, 128, 140, 255])
            stored = np.clip(self.random.normal(zero, 60, shape), 0, 255).astype(np.uint8)
            return stored, scales, np.uint8(zero)
        return self.random.integers(-127, 128, shape).astype(np.int8), scales, np.int8(0)

    def linear(self, operators, name, incoming, target, shape, stored, scale, zero, axis, **more):
        """Conv or Gemm in either form; `operators` are its names, QDQ first."""
        channels = shape[0]
        zeros = np.full(scale.shape, zero, zero.dtype)
        bias = self.random.integers(-3000, 3000, channels).astype(np.int32)
        if not self.chance(self.qdq):
            inputs = [name, *self.names(incoming), self.constant(stored)]
            inputs += [self.constant(scale), self.constant(zeros)]
            operator, domain = operators[1]
            if operator == "QGemm":
                inputs += [self.constant(bias), *self.names(target)]
            else:
                inputs += self.names(target)
                inputs += [self.constant(bias)] if operator == "QLinearConv" else []
            return self.node(operator, inputs, target, shape, domain, **more)
        placed = {"axis": axis} if scale.ndim else {}
        inputs = [
            self.real(name, incoming),
            self.real(self.constant(stored), (scale, zeros), **placed),
        ]
        if operators[0] != "MatMul":
            unit = np.float32(incoming[0]) * scale
            held = (unit, np.zeros(unit.shape, np.int32))
            inputs.append(self.real(self.constant(bias), held, **({"axis": 0} if placed else {})))
        made = self.name("sum")
        self.node(operators[0], inputs, None, None, outputs=[made], **more)
        if self.chance(0.3):
            # ONNX Runtime takes an activation into the sum where the zero point stands for it
            target = (target[0], self.kind(np.iinfo(self.kind).min))
            made = self.node("Relu", [made], None, None, outputs=[self.name("relu")])
        return self.node("QuantizeLinear", [made, *self.names(target)], target, shape)

    def conv(self):
        name, shape, incoming = self.pick()
        if len(shape) == 1:
            return self.gemm()
        channels = shape[0]
        window, out = self.window(list(shape[1:]))
        depthwise = self.chance(0.35)
        groups = channels if depthwise else 1
        made = channels if depthwise else int(self.random.integers(1, 24))
        if not depthwise and channels % 2 == 0 and self.chance(0.15):
            groups, made = 2, made + made % 2
        shape_w = (made, channels // groups, *window["kernel_shape"])
        stored, scale, zero = self.weights(shape_w, made)
        fan = np.sqrt(np.prod(shape_w[1:])) * 70 * 70 * float(np.mean(scale)) * float(incoming[0])
        target = (np.float32(fan / 60), self.quantization()[1])
        return self.linear(
            ("Conv", ("QLinearConv", "")), name, incoming, target, (made, *out),
            stored, scale, zero, 0, group=groups, **window,
        )  # fmt: skip

    def flat(self, name, shape):
        """A tensor's elements as a vector, in its own order or channels last."""
        size = int(np.prod(shape))
        made = [self.name("flat")]
        if len(shape) == 3 and self.chance(0.3):
            turned = [self.name("transposed")]
            name = self.node("Transpose", [name], None, None, outputs=turned, perm=[0, 2, 3, 1])
        if self.chance(0.5):
            self.node("Flatten", [name], None, None, outputs=made)
        else:
            sizes = self.constant(np.array([-1, size], np.int64))
            self.node("Reshape", [name, sizes], None, None, outputs=made)
        return made[0], (size,)

    def gemm(self):
        name, shape, incoming = self.pick()
        if np.prod(shape) > 600:
            return None
        if len(shape) > 1:
            name, shape = self.flat(name, shape)
        made = int(self.random.integers(1, 30))
        stored, scale, zero = self.weights((made, shape[0]), 1)
        spread = np.sqrt(shape[0]) * 70 * 70 * scale * incoming[0] / 60
        target = (np.float32(spread), self.quantization()[1])
        if self.chance(0.4):
            return self.linear(
                ("MatMul", ("QLinearMatMul", "")), name, incoming, target, (made,),
                np.ascontiguousarray(stored.T), scale, zero, 1,
            )  # fmt: skip
        return self.linear(
            ("Gemm", ("QGemm", MICROSOFT)), name, incoming, target, (made,),
            stored, scale, zero, 0, transB=1,
        )  # fmt: skip

    def partner(self, shape):
        fitting = [tensor for tensor in self.live if tensor[1] == shape]
        return fitting[self.random.integers(len(fitting))]

    def joined(self, operator, first, second, target, shape):
        """An operator of two activations in either form."""
        if self.chance(self.qdq):
            inputs = [self.real(*first), self.real(*second)]
            return self.floating(operator, inputs, target, shape)
        inputs = [first[0], *self.names(first[1]), second[0], *self.names(second[1])]
        inputs += self.names(target)
        return self.node(f"QLinear{operator}", inputs, target, shape, MICROSOFT)

    def add(self):
        name, shape, first = self.pick()
        other, _, second = self.partner(shape)
        target = (np.float32(max(first[0], second[0]) * self.random.uniform(0.7, 2)), first[1])
        return self.joined("Add", (name, first), (other, second), target, shape)

    def sub(self):
        name, shape, first = self.pick()
        other, _, second = self.partner(shape)
        scale = np.float32(max(first[0], second[0]) * self.random.uniform(0.7, 2))
        target = (scale, self.quantization()[1])
        inputs = [self.real(name, first), self.real(other, second)]
        return self.floating("Sub", inputs, target, shape)

    def mul(self):
        name, shape, first = self.pick()
        other, _, second = self.partner(shape)
        if len(shape) == 3 and self.chance(0.3):
            # one value a channel, as squeeze-and-excitation scales its input
            other, second = self.global_average_of(name, shape, first)
        target = (np.float32(first[0] * second[0] * self.random.uniform(30, 150)), second[1])
        return self.joined("Mul", (name, first), (other, second), target, shape)

    def concat(self):
        name, shape, first = self.pick()
        parts = [(name, first, shape[0])]
        for _ in range(self.random.integers(1, 3)):
            same = [t for t in self.live if t[1][1:] == shape[1:] and len(t[1]) == len(shape)]
            other, other_shape, quantization = same[self.random.integers(len(same))]
            parts.append((other, quantization, other_shape[0]))
        target = self.quantization() if self.chance(0.7) else first
        total = sum(size for _, _, size in parts)
        if total > 60:
            return None
        made = (total, *shape[1:])
        if self.chance(self.qdq):
            inputs = [self.real(part, quantization) for part, quantization, _ in parts]
            return self.floating("Concat", inputs, target, made, axis=1)
        inputs = self.names(target)
        for part, quantization, _ in parts:
            inputs += [part, *self.names(quantization)]
        return self.node("QLinearConcat", inputs, target, made, MICROSOFT, axis=1)

    def max_pool(self):
        name, shape, quantization = self.pick()
        if len(shape) == 1:
            return None
        window, out = self.window(list(shape[1:]))
        return self.moving("MaxPool", name, [], quantization, (shape[0], *out), **window)

    def averaged(self, operator, name, incoming, target, shape, **attributes):
        """An average in either form."""
        if self.chance(self.qdq):
            real = self.real(name, incoming)
            return self.floating(operator, [real], target, shape, **attributes)
        inputs = [name, *self.names(incoming), *self.names(target)]
        if operator == "GlobalAveragePool":
            attributes["channels_last"] = 0
        return self.node(f"QLinear{operator}", inputs, target, shape, MICROSOFT, **attributes)

    def average_pool(self):
        name, shape, (scale, zero) = self.pick()
        if len(shape) != 3:
            return None
        window, out = self.window(list(shape[1:]))
        del window["dilations"]
        spans = zip(shape[1:], window["kernel_shape"], window["strides"], strict=True)
        out = [(size - k) // s + 1 for size, k, s in spans]
        if min(out) < 1:
            return None
        window["pads"] = [0] * 4
        # one scale and an odd number of elements have no ties
        target = (scale, self.quantization()[1])
        if np.prod(window["kernel_shape"]) % 2 == 0:
            target = (np.float32(scale * self.random.uniform(0.4, 1.1)), target[1])
        return self.averaged("AveragePool", name, (scale, zero), target, (shape[0], *out), **window)

    def global_average(self):
        name, shape, incoming = self.pick()
        if len(shape) == 1:
            return None
        return self.global_average_of(name, shape, incoming)[0]

    def global_average_of(self, name, shape, incoming):
        target = (np.float32(incoming[0] * self.random.uniform(0.3, 1)), self.quantization()[1])
        made = (shape[0], *[1] * (len(shape) - 1))
        return self.averaged("GlobalAveragePool", name, incoming, target, made), target

    def unary(self):
        name, shape, first = self.pick()
        target = self.quantization(0.005, 0.1)
        operator = str(self.random.choice(UNARY))
        inputs = [self.real(name, first)]
        if operator == "Clip":
            inputs += [self.constant(np.float32(0)), self.constant(np.float32(6))]
        return self.floating(operator, inputs, target, shape)

    def qlinear_unary(self):
        name, shape, first = self.pick()
        target = self.quantization(0.005, 0.1)
        inputs = [name, *self.names(first), *self.names(target)]
        if self.chance(0.5):
            return self.node("QLinearSigmoid", inputs, target, shape, MICROSOFT)
        return self.node("QLinearLeakyRelu", inputs, target, shape, MICROSOFT, alpha=0.1)

    def requantize(self):
        name, shape, first = self.pick()
        target = self.quantization()
        inputs = [self.real(name, first), *self.names(target)]
        return self.node("QuantizeLinear", inputs, target, shape)

    def pad(self):
        name, shape, quantization = self.pick()
        if len(shape) == 1:
            return None
        sides = [int(self.random.integers(0, 3)) for _ in range(2 * (len(shape) - 1))]
        rank = len(shape) - 1
        pads = np.array([0, 0, *sides[:rank], 0, 0, *sides[rank:]], np.int64)
        out = (shape[0], *(s + sides[i] + sides[i + rank] for i, s in enumerate(shape[1:])))
        inputs = [name, self.constant(pads), self.constant(quantization[1])]
        return self.node("Pad", inputs, quantization, out)

    def resize(self):
        name, shape, quantization = self.pick()
        if len(shape) != 3 or np.prod(shape) > 1500:
            return None
        scales = np.array([1, 1, *self.random.integers(1, 4, 2)], np.float32)
        out = (shape[0], int(shape[1] * scales[2]), int(shape[2] * scales[3]))
        return self.moving(
            "Resize", name, ["", self.constant(scales)], quantization, out,
            mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric",
        )  # fmt: skip

    def slice_(self):
        name, shape, quantization = self.pick()
        axis = int(self.random.integers(1, len(shape) + 1))
        size = shape[axis - 1]
        start = int(self.random.integers(0, size))
        stop = int(self.random.integers(start + 1, size + 1))
        step = int(self.random.integers(1, 3)) if axis > 1 else 1
        values = [[start], [stop], [axis], [step]]
        inputs = [self.constant(np.array(v, np.int64)) for v in values]
        out = list(shape)
        out[axis - 1] = -(-(stop - start) // step)
        return self.moving("Slice", name, inputs, quantization, tuple(out))

    def split(self):
        name, shape, quantization = self.pick()
        if shape[0] < 2:
            return None
        first = int(self.random.integers(1, shape[0]))
        sizes = np.array([first, shape[0] - first], np.int64)
        made = [self.name("split"), self.name("split")]
        inputs = [name, self.constant(sizes)]
        self.node("Split", inputs, None, None, outputs=made, axis=1)
        for part, size in zip(made, sizes, strict=True):
            self.live.append((part, (int(size), *shape[1:]), quantization))
        return made[0]

    def squeeze(self):
        """A tensor of one pixel without its plane, or a vector with one."""
        name, shape, quantization = self.pick()
        if len(shape) == 1:
            axes = self.constant(np.array([2, 3], np.int64))
            return self.moving("Unsqueeze", name, [axes], quantization, (*shape, 1, 1))
        if shape[1:] != (1,) * (len(shape) - 1):
            name, quantization = self.global_average_of(name, shape, quantization)
        axes = self.constant(np.arange(2, len(shape) + 1, dtype=np.int64))
        return self.moving("Squeeze", name, [axes], quantization, shape[:1])

    OPERATORS = (
        conv, conv, conv, conv, gemm, gemm, add, add, sub, mul, concat, max_pool, average_pool,
        unary, unary, qlinear_unary, requantize, global_average, pad, resize, slice_, split,
        squeeze,
    )  # fmt: skip

    # --- the whole ------------------------------------------------------------------------------

    def entry(self, shape):
        """The float input x quantized, channels first or last; its shape in the graph."""
        first = self.quantization()
        if len(shape) == 3 and self.chance(0.25):
            turned = self.node("Transpose", ["x"], None, None, outputs=["nchw"], perm=[0, 3, 1, 2])
            self.node("QuantizeLinear", [turned, *self.names(first)], first, shape)
            return (*shape[1:], shape[0])
        self.node("QuantizeLinear", ["x", *self.names(first)], first, shape)
        return shape

    def output(self, name, shape, quantization):
        """A result's real values, some of them reordered, or through Softmax."""
        made = f"{name}_real"
        inputs = [name, *self.names(quantization)]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [made], name=made))
        if len(shape) == 3 and self.chance(0.2):
            return self.node("Transpose", [made], 0, 0, outputs=[f"{name}_t"], perm=[0, 2, 3, 1])
        if len(shape) == 1 and self.chance(0.3):
            return self.node("Softmax", [made], 0, 0, outputs=[f"{name}_p"], axis=-1)
        return made

    def build(self):
        """The model's bytes and its input shape."""
        shapes = [(3, 9, 8), (1, 12, 6), (8, 6, 6), (20, 5, 7), (4, 16), (24,), (2, 10, 1)]
        shape = self.entry(shapes[self.random.integers(len(shapes))])
        for _ in range(self.random.integers(2, 10)):
            self.qdq = self.random.choice([0, 0.5, 1])
            operator = self.OPERATORS[self.random.integers(len(self.OPERATORS))]
            operator(self)
        used = {name for node in self.nodes for name in node.input}
        outputs = [self.output(*tensor) for tensor in self.live if tensor[0] not in used]
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        return model.SerializeToString(), shape


def random_graph(seed):
    """The model with this seed, and inputs that fill its range."""
    model, shape = RandomGraph(seed).build()
    values = np.random.default_rng(seed + 1).normal(scale=8, size=(3, *shape))
    return model, {"x": values.astype(np.float32)}


def features(model):
    """What a graph uses, in the words of `FEATURES`."""
    graph = onnx.load_model_from_string(model).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    behind = {node.output[0]: node.input[0] for node in graph.node}
    used = set()
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            kind = constants[node.input[2]].dtype
            used |= {str(kind)} & FEATURES
            continue
        operator = node.op_type.removeprefix("QLinear")
        operator = "Gemm" if operator == "QGemm" else operator
        used.add(operator)
        quantized = operator != node.op_type
        if operator in ("Conv", "Gemm", "MatMul"):
            used.add("QOperator" if quantized else "QDQ")
            stored = node.input[3] if quantized else behind[node.input[1]]
            weights = constants[stored]
            used |= {"uint8 weights"} if weights.dtype == np.uint8 else set()
            scale = (
                node.input[4]
                if quantized
                else next(one.input[1] for one in graph.node if node.input[1] in one.output)
            )
            used.add("per channel" if constants[scale].size > 1 else "per tensor")
        if operator == "Conv":
            used |= _conv_features(node, weights)
    return used


def _conv_features(node, weights):
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    groups = attributes["group"]
    found = {
        "1-D Conv": weights.ndim == 3,
        "depthwise Conv": 1 < groups == len(weights),
        "grouped Conv": 1 < groups < len(weights),
        "dilated Conv": max(attributes["dilations"]) > 1,
        "strided Conv": max(attributes["strides"]) > 1,
    }
    return {name for name, is_so in found.items() if is_so}
