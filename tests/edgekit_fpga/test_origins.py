"""Graphs as others write them: TFLite converters, PyTorch, tools that quantize in the graph."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit_fpga import compare, compile_model
from edgekit_fpga.errors import Refused

RANDOM = np.random.default_rng(7)


class Export:
    """A QDQ graph under construction, every activation with a quantization of its own."""

    def __init__(self, kind, opset, weights=np.int8):
        self.kind, self.opset, self.weights_kind = kind, opset, weights
        self.nodes, self.constants = [], []
        self.scales = {}

    def constant(self, value, name=None):
        name = name or f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, operator, *inputs, outputs=1, **attributes):
        made = [f"{operator.lower()}{len(self.nodes)}_{i}" for i in range(outputs)]
        name = f"/{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), made, name, **attributes))
        return made[0]

    def quantize(self, real, scale, zero=None):
        """Q and DQ of a float tensor; the real view."""
        limits = np.iinfo(self.kind)
        zero = RANDOM.integers(limits.min + 60, limits.max - 60) if zero is None else zero
        pair = [self.constant(np.float32(scale)), self.constant(self.kind(zero))]
        self.scales[real] = np.float32(scale)
        stored = self.node("QuantizeLinear", real, *pair)
        made = self.node("DequantizeLinear", stored, *pair)
        self.scales[made] = np.float32(scale)
        return made

    def weights(self, *shape):
        """Weights through DequantizeLinear, as a converter writes them."""
        limits = np.iinfo(self.weights_kind)
        zero = 0 if self.weights_kind == np.int8 else int(RANDOM.integers(60, 200))
        stored = np.clip(RANDOM.normal(zero, 70, shape), limits.min, limits.max)
        scale = np.float32(RANDOM.uniform(0.002, 0.005))
        made = self.node(
            "DequantizeLinear",
            self.constant(stored.astype(self.weights_kind)),
            self.constant(scale),
            self.constant(self.weights_kind(zero)),
        )
        self.scales[made] = scale
        return made

    def bias(self, source, weights, size):
        unit = np.float32(self.scales[source] * self.scales[weights])
        stored = RANDOM.integers(-2000, 2000, size).astype(np.int32)
        return self.node("DequantizeLinear", self.constant(stored), self.constant(unit))

    def model(self, shape, output, kind=TensorProto.FLOAT):
        graph = helper.make_graph(
            self.nodes,
            "export",
            [helper.make_tensor_value_info("x", kind, shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
            self.constants,
        )
        opsets = [helper.make_opsetid("", self.opset)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        return made.SerializeToString()


def check(model, shape, kind=np.float32, **options):
    if kind == np.float32:
        values = np.random.default_rng(1).normal(scale=3, size=(3, *shape)).astype(kind)
    else:
        limits = np.iinfo(kind)
        values = np.random.default_rng(1).integers(limits.min, limits.max + 1, (3, *shape), kind)
    package = compile_model(model, "generic-axi", **options)
    result = compare(package, model, {"x": values})
    assert result.mismatches == 0, result.tensors
    return package, result


@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_a_converted_tflite_graph(kind, opset):
    """NHWC around each block, uint8 weights with a zero point, one scale for an average."""
    e = Export(kind, opset, weights=kind)
    to_nchw, to_nhwc = {"perm": [0, 3, 1, 2]}, {"perm": [0, 2, 3, 1]}
    x = e.quantize("x", 0.05)
    t = e.node("Transpose", x, **to_nchw)
    e.scales[t] = e.scales[x]
    w = e.weights(12, 3, 3, 3)
    c = e.node("Conv", t, w, e.bias(t, w, 12), pads=[0, 0, 1, 1], strides=[2, 2])
    c = e.quantize(e.node("Clip", c, e.constant(np.float32(0)), e.constant(np.float32(6))), 6 / 255,
                   np.iinfo(kind).min)  # fmt: skip
    d = e.weights(12, 1, 3, 3)
    y = e.node("Conv", c, d, e.bias(c, d, 12), pads=[1, 1, 1, 1], group=12)
    y = e.quantize(y, 0.08)
    # a converter leaves a pair that cancels where it could not move one of them away
    back = e.node("Transpose", y, **to_nhwc)
    y2 = e.node("Transpose", back, **to_nchw)
    y = e.quantize(e.node("Add", c, y2), 0.09)
    y = e.quantize(e.node("GlobalAveragePool", y), 0.03)
    flat = e.node("Reshape", e.node("Transpose", y, **to_nhwc), e.constant(np.array([-1, 12])))
    e.scales[flat] = np.float32(0.03)
    m = e.weights(5, 12)
    out = e.quantize(e.node("Gemm", flat, m, e.bias(flat, m, 5), transB=1), 0.04)
    out = e.node("Softmax", out, axis=-1)
    package, result = check(e.model([1, 16, 16, 3], out), (16, 16, 3))
    assert result.compared > 3000
    assert [stage["type"] for stage in package.manifest["stages"]] == ["cpu", "npu", "cpu"]


@pytest.mark.parametrize("opset", [13, 15, 18, 21])
@pytest.mark.parametrize("batch", ["N", 1])
def test_a_pytorch_export_that_computes_its_shapes(batch, opset):
    """x.view(x.size(0), -1) as Shape, Gather, Unsqueeze, Concat; Identity, Dropout, Constants."""
    e = Export(np.uint8, opset)

    def held(value):
        tensor = numpy_helper.from_array(np.asarray(value), "")
        return e.node("Constant", value=tensor)

    x = e.quantize("x", 0.06)
    w = e.weights(8, 4, 3, 3)
    c = e.node("Conv", x, w, e.bias(x, w, 8), pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    c = e.quantize(e.node("Relu", c), 0.05, 0)
    c = e.node("Identity", c)
    p = e.quantize(e.node("MaxPool", c, kernel_shape=[2, 2], strides=[2, 2]), 0.05, 0)
    size = e.node("Gather", e.node("Shape", p), held(np.int64(0)), axis=0)
    size = e.node("Unsqueeze", size, held(np.array([0])))
    shape = e.node("Concat", size, held(np.array([-1])), axis=0)
    f = e.node("Dropout", e.node("Reshape", p, shape))
    e.scales[f] = np.float32(0.05)
    m = e.weights(6, 128)
    out = e.quantize(e.node("Gemm", f, m, e.bias(f, m, 6), transB=1), 0.07)
    check(e.model([batch, 4, 8, 8], out), (4, 8, 8))


def test_weights_that_the_graph_itself_quantizes_and_turns():
    """A float initializer through Q and DQ, and x @ W.T as exporters write a linear layer."""
    e = Export(np.int8, 17)
    x = e.quantize("x", 0.06)
    w = RANDOM.normal(size=(8, 4, 3, 3)).astype(np.float32)
    scale = np.abs(w).max(axis=(1, 2, 3)) / 127
    pair = [e.constant(scale.astype(np.float32)), e.constant(np.zeros(8, np.int8))]
    q = e.node("QuantizeLinear", e.constant(w), *pair, axis=0)
    d = e.node("DequantizeLinear", q, *pair, axis=0)
    bias = e.constant(RANDOM.normal(size=8).astype(np.float32))
    c = e.quantize(e.node("Conv", x, d, bias, pads=[1, 1, 1, 1]), 0.1)
    g = e.quantize(e.node("GlobalAveragePool", c), 0.04)
    out = e.node("Flatten", g)
    check(e.model(["N", 4, 8, 8], out), (4, 8, 8))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_weights_that_do_not_fit_int8_once_their_zero_point_is_off(groups):
    e = Export(np.uint8, 17)
    x = e.quantize("x", 0.06)
    stored = RANDOM.integers(0, 256, (8 if groups < 4 else 4, 4 // groups, 3, 3)).astype(np.uint8)
    held = [e.constant(np.float32(0.003)), e.constant(np.uint8(3))]
    w = e.node("DequantizeLinear", e.constant(stored), *held)
    out = e.quantize(e.node("Conv", x, w, pads=[1, 1, 1, 1], group=groups), 0.2)
    package, _ = check(e.model(["N", 4, 8, 8], out), (4, 8, 8))
    assert package.manifest["macs"] == stored.size * 64


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_the_graphs_own_input_and_output_may_be_integers(kind):
    e = Export(kind, 17)
    zero = e.constant(kind(100))
    x = e.node("DequantizeLinear", "x", e.constant(np.float32(0.05)), zero)
    e.scales[x] = np.float32(0.05)
    w = e.weights(8, 4, 3, 3)
    c = e.quantize(e.node("Conv", x, w, e.bias(x, w, 8)), 0.1)
    proto = TensorProto.INT8 if kind == np.int8 else TensorProto.UINT8
    package, _ = check(e.model(["N", 4, 8, 8], c, proto), (4, 8, 8), kind)
    assert package.manifest["inputs"][0]["type"] == np.dtype(kind).name


def test_all_that_an_export_has_and_the_npu_has_not_is_said_at_once():
    e = Export(np.int8, 17)
    x = e.quantize("x", 0.05)
    w = e.weights(8, 4, 3, 3)
    c = e.quantize(e.node("Conv", x, w), 0.1)
    a = e.quantize(e.node("LayerNormalization", c, e.constant(np.ones(6, np.float32))), 0.1)
    b = e.quantize(e.node("Einsum", c, equation="nchw->nhwc"), 0.1)
    out = e.node("Concat", a, b, axis=1)
    with pytest.raises(Refused) as refusal:
        compile_model(e.model(["N", 4, 8, 8], out))
    told = [(problem.node, problem.operator) for problem in refusal.value.problems]
    assert told == [("/LayerNormalization_6", "LayerNormalization"), ("/Einsum_9", "Einsum")]
    assert all(problem.reason for problem in refusal.value.problems)
