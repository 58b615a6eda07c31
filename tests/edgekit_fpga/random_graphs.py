"""Random int8 graphs over the compiler's whole operator list, in QOperator form.

`random_graph(seed)` gives the same graph for the same seed; a failing test prints its seed.
"""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"


class RandomGraph:
    """A graph under construction: quantized tensors by name with shape, scale, zero point."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.kind = self.random.choice([np.int8, np.uint8])
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

    def conv(self):
        name, shape, (scale, zero) = self.pick()
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
        weights = self.random.integers(-127, 128, shape_w).astype(np.int8)
        scales = self.random.uniform(0.001, 0.01, made).astype(np.float32)
        if self.chance(0.3):
            scales = scales[:1].reshape(())
        fan = np.sqrt(np.prod(shape_w[1:])) * 70 * 70 * float(np.mean(scales)) * float(scale)
        target = (np.float32(fan / 60), self.quantization()[1])
        bias = self.random.integers(-3000, 3000, made).astype(np.int32)
        zeros = np.zeros(scales.shape, np.int8)
        inputs = [name, *self.names((scale, zero)), self.constant(weights)]
        inputs += [self.constant(scales), self.constant(zeros), *self.names(target)]
        inputs += [self.constant(bias)] if self.chance(0.8) else []
        return self.node("QLinearConv", inputs, target, (made, *out), group=groups, **window)

    def gemm(self):
        name, shape, (scale, zero) = self.pick()
        if len(shape) > 1:
            if np.prod(shape) > 600:
                return None
            flat = (int(np.prod(shape)),)
            made = self.name("flatten")
            name = self.node("Flatten", [name], None, None, outputs=[made])
            shape = flat
        made = int(self.random.integers(1, 30))
        weights = self.random.integers(-127, 128, (made, shape[0])).astype(np.int8)
        scales = np.float32(self.random.uniform(0.001, 0.01))
        target = (np.float32(np.sqrt(shape[0]) * 70 * 70 * scales * scale / 60), zero)
        inputs = [name, *self.names((scale, zero))]
        if self.chance(0.3):
            inputs += [self.constant(weights.T.copy()), self.constant(scales)]
            inputs += [self.constant(np.int8(0)), *self.names(target)]
            return self.node("QLinearMatMul", inputs, target, (made,))
        bias = self.random.integers(-3000, 3000, made).astype(np.int32)
        inputs += [self.constant(weights), self.constant(scales), self.constant(np.int8(0))]
        inputs += [self.constant(bias), *self.names(target)]
        return self.node("QGemm", inputs, target, (made,), MICROSOFT, transB=1)

    def partner(self, shape):
        fitting = [tensor for tensor in self.live if tensor[1] == shape]
        return fitting[self.random.integers(len(fitting))]

    def add(self):
        name, shape, first = self.pick()
        other, _, second = self.partner(shape)
        target = (np.float32(max(first[0], second[0]) * self.random.uniform(0.7, 2)), first[1])
        inputs = [name, *self.names(first), other, *self.names(second), *self.names(target)]
        return self.node("QLinearAdd", inputs, target, shape, MICROSOFT)

    def mul(self):
        name, shape, first = self.pick()
        other, _, second = self.partner(shape)
        target = (np.float32(first[0] * second[0] * self.random.uniform(30, 150)), second[1])
        inputs = [name, *self.names(first), other, *self.names(second), *self.names(target)]
        return self.node("QLinearMul", inputs, target, shape, MICROSOFT)

    def concat(self):
        name, shape, first = self.pick()
        parts = [(name, first, shape[0])]
        for _ in range(self.random.integers(1, 3)):
            same = [t for t in self.live if t[1][1:] == shape[1:] and len(t[1]) == len(shape)]
            other, other_shape, quantization = same[self.random.integers(len(same))]
            parts.append((other, quantization, other_shape[0]))
        target = self.quantization() if self.chance(0.7) else first
        inputs = self.names(target)
        for part, quantization, _ in parts:
            inputs += [part, *self.names(quantization)]
        total = sum(size for _, _, size in parts)
        if total > 60:
            return None
        return self.node("QLinearConcat", inputs, target, (total, *shape[1:]), MICROSOFT, axis=1)

    def max_pool(self):
        name, shape, quantization = self.pick()
        if len(shape) == 1:
            return None
        window, out = self.window(list(shape[1:]))
        return self.node("MaxPool", [name], quantization, (shape[0], *out), **window)

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
        target = (np.float32(scale * self.random.uniform(0.4, 1.1)), self.quantization()[1])
        inputs = [name, *self.names((scale, zero)), *self.names(target)]
        return self.node(
            "QLinearAveragePool", inputs, target, (shape[0], *out), MICROSOFT, **window
        )

    def global_average(self):
        name, shape, (scale, zero) = self.pick()
        if len(shape) == 1:
            return None
        target = (np.float32(scale * self.random.uniform(0.3, 1)), self.quantization()[1])
        inputs = [name, *self.names((scale, zero)), *self.names(target)]
        return self.node(
            "QLinearGlobalAveragePool",
            inputs,
            target,
            (shape[0], *[1] * (len(shape) - 1)),
            MICROSOFT,
            channels_last=0,
        )

    def unary(self):
        name, shape, first = self.pick()
        target = self.quantization(0.005, 0.1)
        plain = ["Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "LeakyRelu", "Relu", "Clip"]
        operator = str(self.random.choice(plain))
        real, made = self.name("real"), self.name("float")
        self.node("DequantizeLinear", [name, *self.names(first)], None, None, outputs=[real])
        inputs = [real]
        if operator == "Clip":
            inputs += [self.constant(np.float32(0)), self.constant(np.float32(6))]
        self.node(operator, inputs, None, None, outputs=[made])
        return self.node("QuantizeLinear", [made, *self.names(target)], target, shape)

    def qlinear_unary(self):
        name, shape, first = self.pick()
        target = self.quantization(0.005, 0.1)
        inputs = [name, *self.names(first), *self.names(target)]
        if self.chance(0.5):
            return self.node("QLinearSigmoid", inputs, target, shape, MICROSOFT)
        return self.node("QLinearLeakyRelu", inputs, target, shape, MICROSOFT, alpha=0.1)

    def pad(self):
        name, shape, quantization = self.pick()
        if len(shape) == 1:
            return None
        sides = [int(self.random.integers(0, 3)) for _ in range(2 * (len(shape) - 1))]
        rank = len(shape) - 1
        pads = np.array([0, 0, *sides[:rank], 0, 0, *sides[rank:]], np.int64)
        out = [s + sides[i] + sides[i + rank] for i, s in enumerate(shape[1:])]
        inputs = [name, self.constant(pads), self.constant(quantization[1])]
        return self.node("Pad", inputs, quantization, (shape[0], *out))

    def resize(self):
        name, shape, quantization = self.pick()
        if len(shape) != 3 or np.prod(shape) > 1500:
            return None
        scales = np.array([1, 1, *self.random.integers(1, 4, 2)], np.float32)
        inputs = [name, "", self.constant(scales)]
        out = (shape[0], int(shape[1] * scales[2]), int(shape[2] * scales[3]))
        return self.node(
            "Resize",
            inputs,
            quantization,
            out,
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )

    def slice_(self):
        name, shape, quantization = self.pick()
        axis = int(self.random.integers(1, len(shape) + 1))
        size = shape[axis - 1]
        start = int(self.random.integers(0, size))
        stop = int(self.random.integers(start + 1, size + 1))
        step = int(self.random.integers(1, 3)) if axis > 1 else 1
        values = [[start], [stop], [axis], [step]]
        inputs = [name, *(self.constant(np.array(v, np.int64)) for v in values)]
        out = list(shape)
        out[axis - 1] = -(-(stop - start) // step)
        return self.node("Slice", inputs, quantization, tuple(out))

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
        name, shape, quantization = self.pick()
        if len(shape) == 1 or shape[1:] != (1,) * (len(shape) - 1):
            return None
        axes = np.arange(2, len(shape) + 1, dtype=np.int64)
        return self.node("Squeeze", [name, self.constant(axes)], quantization, shape[:1])

    OPERATORS = (
        conv, conv, conv, conv, gemm, add, add, mul, concat, max_pool, average_pool, unary,
        qlinear_unary, global_average, pad, resize, slice_, split, squeeze,
    )  # fmt: skip

    def build(self):
        """The model's bytes and its input shape."""
        shapes = [(3, 9, 8), (1, 12, 6), (8, 6, 6), (20, 5, 7), (4, 16), (24,), (2, 10, 1)]
        shape = shapes[self.random.integers(len(shapes))]
        first = self.quantization()
        self.node("QuantizeLinear", ["x", *self.names(first)], first, shape)
        for _ in range(self.random.integers(2, 10)):
            operator = self.OPERATORS[self.random.integers(len(self.OPERATORS))]
            operator(self)
        used = {name for node in self.nodes for name in node.input}
        outputs = []
        for name, _, quantization in self.live:
            if name not in used:
                made = f"{name}_real"
                inputs = [name, *self.names(quantization)]
                self.nodes.append(helper.make_node("DequantizeLinear", inputs, [made], name=made))
                outputs.append(made)
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
