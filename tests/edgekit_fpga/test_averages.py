"""AveragePool whose ties ONNX Runtime decides by the order of a float sum."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit_fpga import compare, compile_model, run
from edgekit_fpga.errors import Refused

MICROSOFT = "com.microsoft"
KINDS = {np.int8: TensorProto.INT8, np.uint8: TensorProto.UINT8}


def average_net(kind, form, *, before="", after="", scale=0.0371, **window):
    """An average of 2x2 with one scale: every second sum is a tie. A Conv may be on either side."""
    window = {"kernel_shape": [2, 2], "strides": [2, 2]} | window
    zero = kind(-3 if kind == np.int8 else 120)
    constants = {"s": np.float32(scale), "z": zero, "t": np.float32(0.02)}
    weights = np.random.default_rng(0).integers(-127, 128, (6, 6, 1, 1)).astype(np.int8)
    q = ["s", "z"]

    def conv(source, made):
        # of its own: ONNX Runtime rewrites a convolution's weights, and fails where two share them
        constants[f"w{made}"] = weights
        constants[f"n{made}"] = np.int8(0)
        inputs = [source, *q, f"w{made}", "t", f"n{made}", *q]
        return helper.make_node("QLinearConv", inputs, [made], made)

    nodes = [conv("x", "c")] if before else []
    source = "c" if before else "x"
    made = "a" if after else "y"
    if form == "qop":
        inputs = [source, *q, *q]
        nodes += [
            helper.make_node("QLinearAveragePool", inputs, [made], "p", domain=MICROSOFT, **window)
        ]
    else:
        nodes += [
            helper.make_node("DequantizeLinear", [source, *q], ["d"]),
            helper.make_node("AveragePool", ["d"], ["e"], "p", **window),
            helper.make_node("QuantizeLinear", ["e", *q], [made]),
        ]
    nodes += [conv("a", "y")] if after else []
    graph = helper.make_graph(
        nodes,
        "average",
        [helper.make_tensor_value_info("x", KINDS[kind], ["N", 6, 9, 8])],
        [helper.make_tensor_value_info("y", KINDS[kind], None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def values(kind, count=40):
    limits = np.iinfo(kind)
    random = np.random.default_rng(1)
    return {"x": random.integers(limits.min, limits.max + 1, (count, 6, 9, 8), dtype=kind)}


@pytest.mark.parametrize("form", ["qop", "qdq"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "window",
    [
        {},
        {"pads": [1, 1, 1, 0], "count_include_pad": 1},
        {"pads": [1, 0, 0, 1]},
        {"ceil_mode": 1},
        {"kernel_shape": [3, 2], "strides": [1, 3]},
    ],
    ids=str,
)
@pytest.mark.parametrize("side", ["before", "after"])
def test_the_cpu_at_either_end_adds_floats_in_onnx_runtimes_order(side, window, kind, form):
    model = average_net(kind, form, **{side: "Conv"}, **window)
    package = compile_model(model)
    stage = package.before if side == "after" else package.after
    assert "QLinearAveragePool" in [operation.operator for operation in stage]
    result = compare(package, model, values(kind))
    assert result.mismatches == 0
    assert "y" in result.tensors


def test_between_layers_it_is_refused_with_what_to_do():
    with pytest.raises(Refused, match="it needs p, whose averages of 4 elements fall on ties"):
        compile_model(average_net(np.int8, "qop", before="Conv", after="Conv"))


@pytest.mark.parametrize("form", ["qop", "qdq"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 0]])
def test_integer_averages_equal_the_convolution_with_weights_of_one(kind, form, pads):
    window = {"pads": pads, "count_include_pad": 1}
    model = average_net(kind, form, before="Conv", after="Conv", **window)
    package = compile_model(model, integer_averages=True)
    assert package.manifest["integer_averages"] == ["p"]
    result = compare(package, model, values(kind))
    assert result.mismatches == 0
    assert {"c", "a", "y"} <= set(result.tensors)


def test_an_integer_average_rounds_ties_to_even():
    model = average_net(np.int8, "qop", before="Conv", after="Conv")
    package = compile_model(model, integer_averages=True)
    seen = {}
    run(package, values(np.int8), observe=seen.__setitem__)
    windows = seen["c"][:, :, :8].reshape(40, 6, 4, 2, 4, 2).astype(np.int64) + 3
    mean = np.rint(windows.sum(axis=(3, 5)) / 4) - 3
    assert np.array_equal(seen["a"], mean)


@pytest.mark.parametrize("kind", KINDS)
def test_power_of_two_scales_need_no_choice(kind):
    model = average_net(kind, "qop", before="Conv", after="Conv", scale=0.03125)
    package = compile_model(model)
    assert package.manifest["integer_averages"] == []
    assert compare(package, model, values(kind)).mismatches == 0
