"""ONNX files that are broken, or made to break: one line says what is wrong, and never a crash."""

import copy

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgekit_fpga import compare, compile_model
from edgekit_fpga.errors import FpgaError, GraphError, Refused
from tests.edgekit_fpga.graphs import small_net

NETS = {form: small_net(0, form) for form in ("qop", "qdq")}
HUGE = [0, 1, -1, 2, 255, 256, 1 << 16, 1 << 31, (1 << 62) + 1, -(1 << 62)]
SLOW = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def refused_or_right(data):
    """What a model is refused with; one that compiles equals ONNX Runtime, where that runs it."""
    try:
        package = compile_model(data)
    except FpgaError as error:
        return str(error)
    images = np.random.default_rng(0).normal(size=(2, *package.manifest["inputs"][0]["shape"]))
    inputs = {package.manifest["inputs"][0]["name"]: images.astype(np.float32)}
    try:
        result = compare(package, data, inputs)
    except GraphError as error:
        return str(error).partition("\n")[0]
    assert result.mismatches == 0
    return ""


@SLOW
@given(st.sampled_from(sorted(NETS)), st.data())
def test_any_cut_or_changed_bytes(form, data):
    net = NETS[form]
    place = data.draw(st.integers(0, len(net) - 1))
    change = data.draw(st.binary(max_size=4))
    tail = net[place + data.draw(st.integers(0, 4)) :] if data.draw(st.booleans()) else b""
    said = ""
    try:
        compile_model(net[:place] + change + tail)
    except FpgaError as error:
        said = str(error)
    assert "\n" not in said


@SLOW
@given(st.sampled_from(sorted(NETS)), st.data())
def test_any_attribute_of_any_node(form, data):
    model = onnx.load_model_from_string(NETS[form])
    nodes = [node for node in model.graph.node if node.attribute]
    node = nodes[data.draw(st.integers(0, len(nodes) - 1))]
    index = data.draw(st.integers(0, len(node.attribute) - 1))
    name = node.attribute[index].name
    value = data.draw(
        st.sampled_from(HUGE)
        | st.lists(st.sampled_from(HUGE), min_size=1, max_size=5)
        | st.sampled_from([float("nan"), float("inf"), "VALID", "SAME_UPPER", "?"])
    )
    del node.attribute[index]
    if data.draw(st.booleans()):
        node.attribute.append(helper.make_attribute(name, value))
    assert "\n" not in refused_or_right(model.SerializeToString())


@SLOW
@given(st.sampled_from(sorted(NETS)), st.data())
def test_any_input_of_any_node(form, data):
    model = onnx.load_model_from_string(NETS[form])
    graph = model.graph
    names = [t.name for t in graph.initializer] + [o for n in graph.node for o in n.output] + [""]
    node = graph.node[data.draw(st.integers(0, len(graph.node) - 1))]
    place = data.draw(st.integers(0, len(node.input) - 1))
    match data.draw(st.sampled_from(["other", "gone", "fewer"])):
        case "other":
            node.input[place] = data.draw(st.sampled_from(names))
        case "gone":
            node.input[place] = "nobody"
        case "fewer":
            del node.input[place]
    assert "\n" not in refused_or_right(model.SerializeToString())


@SLOW
@given(st.sampled_from(sorted(NETS)), st.data())
def test_any_value_or_shape_of_any_constant(form, data):
    model = onnx.load_model_from_string(NETS[form])
    names = sorted(t.name for t in model.graph.initializer)
    name = data.draw(st.sampled_from(names))
    tensor = next(t for t in model.graph.initializer if t.name == name)
    if data.draw(st.booleans()):
        dims = data.draw(st.lists(st.sampled_from(HUGE), max_size=4))
        del tensor.dims[:]
        tensor.dims.extend(dims)
    else:
        value = numpy_helper.to_array(tensor)
        kind = value.dtype.type
        extremes = [0, 1, -1, 127, -128, 1e-45, 1e38, np.nan, np.inf, -np.inf]
        chosen = data.draw(st.sampled_from(extremes))
        if not np.isfinite(chosen) and value.dtype.kind != "f":
            chosen = 0
        with np.errstate(over="ignore", invalid="ignore"):
            filled = np.full(value.shape, np.float64(chosen)).astype(kind)
        tensor.CopyFrom(numpy_helper.from_array(filled, tensor.name))
    assert "\n" not in refused_or_right(model.SerializeToString())


def simple(*nodes, shape=(4, 8, 8), kind=TensorProto.FLOAT, outputs=("y",), **constants):
    """A model of these nodes over x, with scale s, zero point z and more constants."""
    held = {"s": np.float32(0.1), "z": np.int8(0)} | constants
    graph = helper.make_graph(
        [helper.make_node(op, i.split(), o.split(), name, **a) for op, i, o, name, a in nodes],
        "g",
        [helper.make_tensor_value_info("x", kind, ["N", *shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in held.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


Q = ("QuantizeLinear", "x s z", "q", "quantize", {})
DQ = ("DequantizeLinear", "m s z", "y", "dequantize", {})


@pytest.mark.parametrize("scale", [np.nan, np.inf, 0.0, -0.1])
@pytest.mark.parametrize("form", NETS)
def test_a_scale_that_is_none_is_named(form, scale):
    model = onnx.load_model_from_string(NETS[form])
    tensor = next(t for t in model.graph.initializer if t.name == "x_scale")
    tensor.CopyFrom(numpy_helper.from_array(np.float32(scale), "x_scale"))
    with pytest.raises(Refused, match=r"x_QuantizeLinear .*is not a positive number"):
        compile_model(model.SerializeToString())


@pytest.mark.parametrize(
    ("node", "constants", "message"),
    [
        (("Reshape", "q n", "m", "r", {}), {"n": [1, 1 << 32, 1 << 32]}, "it reshapes the batch"),
        (("Pad", "q n z", "m", "p", {}), {"n": [0, 0, 1 << 40, 0] * 2}, "a tensor of 4 x"),
        (("Resize", "q e n", "m", "r", {}), {"n": np.float32([1, 1, 1e9, 1])}, "a tensor of 4 x"),
        (("MaxPool", "q", "m", "p", {"kernel_shape": [0, 1]}), {}, "a window of"),
        (("MaxPool", "q", "m", "p", {"kernel_shape": [2, 2], "strides": [0, 1]}), {}, "strides"),
        (("MaxPool", "q", "m", "p", {}), {}, "it is malformed"),
        (("MaxPool", "q", "m", "p", {"kernel_shape": [1 << 40, 1]}), {}, "a window of"),
        (("Slice", "q n", "m", "p", {}), {"n": [0]}, "it is malformed"),
        (("Split", "q n", "m o", "p", {"axis": 1}), {"n": [1 << 40, 3]}, "a tensor of"),
        (("Transpose", "q", "m", "t", {"perm": [0, 9, 9, 9]}), {}, "it is malformed"),
        (("Squeeze", "q n", "m", "t", {}), {"n": [99]}, "it squeezes the batch"),
    ],
    ids=str,
)
def test_sizes_that_make_no_sense(node, constants, message):
    values = {
        name: np.asarray(value, None if hasattr(value, "dtype") else np.int64)
        for name, value in constants.items()
    }
    model = simple(Q, node, DQ, e=np.zeros(0, np.float32), **values)
    with pytest.raises(Refused, match=message):
        compile_model(model.SerializeToString())


def broken(change):
    model = simple(Q, ("MaxPool", "q", "m", "pool", {"kernel_shape": [1, 1]}), DQ)
    change(model.graph)
    return model.SerializeToString()


def _twice(graph):
    graph.node.append(copy.deepcopy(graph.node[1]))


def _missing(graph):
    del graph.initializer[0]


def _cycle(graph):
    graph.node[1].input[0] = "y"


def _elsewhere(graph):
    graph.initializer[0].data_location = TensorProto.EXTERNAL


def _short(graph):
    graph.initializer[0].raw_data = b"\0"


def _no_output(graph):
    del graph.output[:]


def _huge_input(graph):
    graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1 << 62


def _many_nodes(graph):
    for index in range(5000):
        made = helper.make_node("MaxPool", ["q"], [f"more{index}"], kernel_shape=[1, 1])
        graph.node.append(made)


def _no_type(graph):
    graph.input[0].type.tensor_type.elem_type = 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_twice, r"pool \(MaxPool\) makes m a second time"),
        (_missing, "reads s before it is made: the graph has a cycle, .* lacks an initializer"),
        (_cycle, r"pool \(MaxPool\) reads y before it is made: the graph has a cycle"),
        (_elsewhere, "constant s lies in another file"),
        (_short, "constant s is damaged"),
        (_no_output, "the graph has no outputs"),
        (_huge_input, "input x has the shape"),
        (_no_type, "input x has no type"),
        (_many_nodes, "the graph has 5,003 nodes"),
    ],
)
def test_a_broken_graph_is_refused_in_one_line(change, message):
    with pytest.raises(GraphError, match=message) as error:
        compile_model(broken(change))
    assert "\n" not in str(error.value)
