import dataclasses
import re

import pytest
from onnx import TensorProto, helper

from edgekit_fpga import compile_model, isa
from edgekit_fpga.boards import load_board
from edgekit_fpga.cores import lacking
from edgekit_fpga.errors import BoardError, Refused

SMALL = load_board("ice40-up5k")
PLANE = {"height": 4, "width": 4, "granules": 4}
FIELDS = {f"{role}_{name}": value for role in ("in", "out") for name, value in PLANE.items()}
FIELDS |= {"kernel_height": 3, "kernel_width": 3, "dilation_height": 1, "dilation_width": 1}


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (isa.Conv(**FIELDS, steps=9, pool=1), "no adder for all pixels of a result"),
        (isa.Conv(**FIELDS, steps=9, advance=1), "a window of 9 taps, ice40-up5k has 255"),
        (isa.Conv(**FIELDS, steps=257), "one result takes 1028 bytes of input, .* holds 1024"),
        (isa.Map(**FIELDS | {"out_width": 4096}), "out_width is 4096, ice40-up5k counts to 4095"),
        (isa.Map(**FIELDS, pad_left=-3000), "a window reaches 3000 beyond its pixel"),
        (isa.Depthwise(**FIELDS | {"dilation_width": 250, "kernel_width": 10}), "reaches 2250"),
        (isa.Pack(**FIELDS | {"in_width": 1400}, channels=3), "a row of 4200 bytes"),
    ],
)
def test_what_the_compact_core_leaves_out_is_named(step, reason):
    (found,) = lacking(step, SMALL)
    assert re.search(reason, found)


def test_the_large_core_lacks_nothing_and_the_compact_one_has_the_rest():
    pooled = isa.Conv(**FIELDS, steps=9, pool=1)
    assert list(lacking(pooled, load_board("ecp5-85f"))) == []
    assert list(lacking(dataclasses.replace(pooled, pool=0), SMALL)) == []


def test_a_layer_too_wide_for_the_compact_core_is_refused_by_its_name():
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("MaxPool", ["q"], ["m"], name="row", kernel_shape=[1, 2]),
        helper.make_node("DequantizeLinear", ["m", "s", "z"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 1, 5000])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            helper.make_tensor("s", TensorProto.FLOAT, [], [0.1]),
            helper.make_tensor("z", TensorProto.INT8, [], [0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    with pytest.raises(Refused) as refusal:
        compile_model(model.SerializeToString(), "ice40-up5k")
    (problem,) = refusal.value.problems
    assert (problem.node, problem.operator) == ("row", "MaxPool")
    assert "in_width is 5000, ice40-up5k counts to 4095" in problem.reason


def test_a_core_that_nobody_built_is_refused():
    with pytest.raises(BoardError, match="core is 'npu_huge', not one of npu, npu_compact"):
        dataclasses.replace(SMALL.array, core="npu_huge")
