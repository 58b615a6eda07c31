"""The four MLPerf Tiny topologies as int8 ONNX, with weights of our own, calibrated.

The shapes are those of the benchmark's reference models; weights are random (He initialization,
seeded), because cycles do not depend on their values. Batch normalization is folded, as a deployed
model has it.
"""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgekit.quantize import quantize

SAMPLES = 16


class Net:
    """A float ONNX graph, built layer by layer."""

    def __init__(self, shape: tuple[int, ...], seed: int) -> None:
        self.shape = shape
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(seed)

    def constant(self, value: NDArray[np.generic]) -> str:
        """Enter a constant; returns its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: object) -> str:
        """Append a node; returns the name of its output."""
        made = f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [made], name=made, **attributes))
        return made

    def weights(self, *shape: int) -> tuple[str, str]:
        """He-initialized weights and small biases."""
        fan = int(np.prod(shape[1:]))
        values = self.random.normal(scale=np.sqrt(2 / fan), size=shape)
        biases = self.random.normal(scale=0.1, size=shape[0])
        return self.constant(values.astype(np.float32)), self.constant(biases.astype(np.float32))

    def conv(
        self,
        source: str,
        made: int,
        channels: int,
        kernel: tuple[int, int],
        stride: int = 1,
        *,
        groups: int = 1,
        relu: bool = True,
    ) -> str:
        """Convolution with "same" padding as TensorFlow pads, and ReLU."""
        weights = self.weights(made, channels // groups, *kernel)
        result = self.node(
            "Conv",
            source,
            *weights,
            kernel_shape=kernel,
            strides=[stride, stride],
            group=groups,
            auto_pad="SAME_UPPER",
        )
        return self.node("Relu", result) if relu else result

    def dense(self, source: str, made: int, inputs: int, *, relu: bool = False) -> str:
        """A dense layer."""
        result = self.node("Gemm", source, *self.weights(made, inputs), transB=1)
        return self.node("Relu", result) if relu else result

    def model(self, output: str) -> onnx.ModelProto:
        """The finished model with input x."""
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *self.shape])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.constants,
        )
        opsets = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        return onnx.shape_inference.infer_shapes(model)


def resnet8() -> onnx.ModelProto:
    """Image classification: ResNet-8 on 32x32x3."""
    net = Net((3, 32, 32), seed=1)
    x = net.conv("x", 16, 3, (3, 3))
    channels = 16
    for made, stride in ((16, 1), (32, 2), (64, 2)):
        y = net.conv(x, made, channels, (3, 3), stride)
        y = net.conv(y, made, made, (3, 3), relu=False)
        if stride > 1:
            x = net.conv(x, made, channels, (1, 1), stride, relu=False)
        x = net.node("Relu", net.node("Add", x, y))
        channels = made
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    return net.model(net.dense(x, 10, 64))


def ds_cnn() -> onnx.ModelProto:
    """Keyword spotting: DS-CNN on 49x10x1."""
    net = Net((1, 49, 10), seed=2)
    x = net.conv("x", 64, 1, (10, 4), 2)
    for _ in range(4):
        x = net.conv(x, 64, 64, (3, 3), groups=64)
        x = net.conv(x, 64, 64, (1, 1))
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    return net.model(net.dense(x, 12, 64))


def mobilenet() -> onnx.ModelProto:
    """Visual wake words: MobileNetV1 0.25 on 96x96x3."""
    net = Net((3, 96, 96), seed=3)
    x = net.conv("x", 8, 3, (3, 3), 2)
    channels = 8
    steps = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)]
    for made, stride in [*steps, *[(128, 1)] * 5, (256, 2), (256, 1)]:
        x = net.conv(x, channels, channels, (3, 3), stride, groups=channels)
        x = net.conv(x, made, channels, (1, 1))
        channels = made
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    return net.model(net.dense(x, 2, 256))


def autoencoder() -> onnx.ModelProto:
    """Anomaly detection: dense autoencoder 640-128x4-8-128x4-640."""
    net = Net((640,), seed=4)
    x, inputs = "x", 640
    for made in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        x, inputs = net.dense(x, made, inputs, relu=True), made
    return net.model(net.dense(x, 640, inputs))


NETS = {
    "ResNet-8": resnet8,
    "DS-CNN": ds_cnn,
    "MobileNetV1-0.25": mobilenet,
    "autoencoder": autoencoder,
}


def samples(model: onnx.ModelProto, count: int, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Random inputs of the model's shape."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    shape = [dim.dim_value for dim in dims[1:]]
    values = np.random.default_rng(seed).normal(size=(count, *shape))
    return {"x": values.astype(np.float32)}


def int8_net(name: str) -> bytes:
    """The net called `name`, quantized to int8."""
    model = NETS[name]()
    return quantize(model.SerializeToString(), samples(model, SAMPLES))
