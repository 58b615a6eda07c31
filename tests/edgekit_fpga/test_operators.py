"""Float nets of many operators through ONNX Runtime's QDQ quantizer, as other exporters write."""

import numpy as np
import pytest
from onnx import helper
from onnxruntime.quantization import QuantType

from edgekit_fpga import compare, compile_model
from tests.edgekit_fpga.graphs import float_model, quantized

RANDOM = np.random.default_rng(11)


def weights(*shape):
    return (RANDOM.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def node(operator, inputs, outputs, **attributes):
    names = [name.strip("-") for name in inputs.split()]
    return helper.make_node(operator, names, outputs.split(), outputs, **attributes)


def ints(*values):
    return np.array(values, np.int64)


CONV = {
    "w": weights(12, 6, 3, 3),
    "b": weights(12, 1)[:, 0],
    "last": weights(3, 12, 1, 1),
}
# ONNX Runtime quantizes the operators before it only where a convolution follows
LAST = node("Conv", "e last", "y")
CONV_NODE = node("Conv", "x w b", "c", pads=[1, 1, 1, 1])
# name -> nodes from x (6, 8, 8) to y, constants
NETS = {
    "sub": ([CONV_NODE, node("Relu", "c", "r"), node("Sub", "r c", "e"), LAST], CONV),
    "mul": ([CONV_NODE, node("Relu", "c", "r"), node("Mul", "r c", "y")], CONV),
    "broadcast": (
        [
            CONV_NODE,
            node("GlobalAveragePool", "c", "g"),
            node("Sigmoid", "g", "s"),
            node("Mul", "c s", "y"),
        ],
        CONV,
    ),
    "concat": ([CONV_NODE, node("Concat", "c x", "y", axis=1)], CONV),
    "hard swish": ([CONV_NODE, node("HardSwish", "c", "e"), LAST], CONV),
    "hard sigmoid": ([CONV_NODE, node("HardSigmoid", "c", "e"), LAST], CONV),
    "tanh": ([CONV_NODE, node("Tanh", "c", "e"), LAST], CONV),
    "leaky": ([CONV_NODE, node("LeakyRelu", "c", "y", alpha=0.2)], CONV),
    "clip": (
        [CONV_NODE, node("Clip", "c lo hi", "y")],
        CONV | {"lo": np.float32(0), "hi": np.float32(6)},
    ),
    "pad": (
        [CONV_NODE, node("Pad", "c pads", "y")],
        CONV | {"pads": ints(0, 0, 1, 2, 0, 0, 0, 1)},
    ),
    "resize": (
        [CONV_NODE, node("Resize", "c - scales", "y", mode="nearest")],
        CONV | {"scales": np.array([1, 1, 2, 3], np.float32)},
    ),
    "slice": (
        [CONV_NODE, node("Slice", "c s e a", "y")],
        CONV | {"s": ints(3, 1), "e": ints(9, 7), "a": ints(1, 2)},
    ),
    "split": (
        [CONV_NODE, node("Split", "c sizes", "p q", axis=1), node("Concat", "q p", "y", axis=1)],
        CONV | {"sizes": ints(5, 7)},
    ),
    "global max": ([CONV_NODE, node("MaxPool", "c", "y", kernel_shape=[8, 8])], CONV),
    "large depthwise": (
        [node("Conv", "x k", "y", group=6, pads=[3, 3, 3, 3])],
        {"k": weights(6, 1, 7, 7)},
    ),
    "grouped": ([node("Conv", "x k", "y", group=3)], {"k": weights(9, 2, 3, 3)}),
    "dilated": (
        [node("Conv", "x k", "y", dilations=[2, 2], strides=[2, 1])],
        {"k": weights(4, 6, 3, 3)},
    ),
    "nhwc flatten": (
        [
            CONV_NODE,
            node("Transpose", "c", "t", perm=[0, 2, 3, 1]),
            node("Reshape", "t shape", "f"),
            node("Gemm", "f v", "y", transB=1),
        ],
        CONV | {"shape": ints(-1, 768), "v": weights(5, 768)},
    ),
    "nhwc ends": (
        [
            node("Transpose", "x", "t", perm=[0, 3, 1, 2]),
            node("Conv", "t k", "d"),
            node("Transpose", "d", "y", perm=[0, 2, 3, 1]),
        ],
        {"k": weights(4, 8, 1, 1)},
    ),
    "softmax": (
        [
            node("GlobalAveragePool", "x", "g"),
            node("Flatten", "g", "f"),
            node("Gemm", "f v", "h", transB=1),
            node("Softmax", "h", "y", axis=-1),
        ],
        {"v": weights(5, 6)},
    ),
}


def model_of(name, form, activations):
    nodes, constants = NETS[name]
    samples = [RANDOM.normal(size=(4, 6, 8, 8)).astype(np.float32) for _ in range(3)]
    return quantized(float_model(nodes, (6, 8, 8), ["y"], constants), samples, form, activations)


@pytest.mark.parametrize("activations", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize("name", NETS)
def test_a_qdq_graph_is_bit_equal_on_every_layer(name, activations):
    model = model_of(name, "qdq", activations)
    images = np.random.default_rng(3).normal(size=(4, 6, 8, 8)).astype(np.float32)
    result = compare(compile_model(model, "generic-axi"), model, {"x": images})
    assert result.mismatches == 0, result.tensors
    assert result.compared > 0
