"""Products whose ties want different constants below and above zero."""

import numpy as np
import pytest
from onnx import TensorProto, checker, helper, numpy_helper

from edgekit_fpga import compare, compile_model, isa, simulate
from edgekit_fpga.compiler import multiplies
from edgekit_fpga.compiler.ir import Quantization

# scales and stored zero points of two operands and a result, uint8
HARD = [
    [(0.17908776, -45), (0.16625103, -69), (4.1928153, 77)],
    [(0.08723696, -91), (0.1828922, 23), (1.273941, 92)],
    [(0.13318168, 40), (0.055746373, -43), (1.095031, 52)],
]


def quantizations(hard):
    return [Quantization(np.float32(scale), zero, True) for scale, zero in hard]


def product(hard):
    """A graph that quantizes two planes of 256 numbers and multiplies them."""
    constants, nodes = [], []
    for name, one in zip("abc", quantizations(hard), strict=True):
        constants.append(numpy_helper.from_array(np.asarray(one.scale), f"{name}s"))
        zero = np.asarray(one.graph_zero_point, np.uint8)
        constants.append(numpy_helper.from_array(zero, f"{name}z"))
    for name in "ab":
        given = [name, f"{name}s", f"{name}z"]
        nodes.append(helper.make_node("QuantizeLinear", given, [f"{name}q"]))
    given = ["aq", "as", "az", "bq", "bs", "bz", "cs", "cz"]
    nodes.append(helper.make_node("QLinearMul", given, ["cq"], "product", domain="com.microsoft"))
    nodes.append(helper.make_node("DequantizeLinear", ["cq", "cs", "cz"], ["c"]))
    shape = ["n", 4, 8, 8]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in "abc"]
    graph = helper.make_graph(nodes, "product", values[:2], values[2:], constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    checker.check_model(model)
    return model.SerializeToString()


def all_pairs(hard):
    """Every pair of stored values, as 256 planes of 256."""
    stored = np.arange(-128, 128)
    one, two, _ = quantizations(hard)
    a = np.broadcast_to(((stored - one.zero_point) * one.scale)[:, None], (256, 256))
    b = np.broadcast_to(((stored - two.zero_point) * two.scale)[None, :], (256, 256))
    return {
        name: np.ascontiguousarray(value, np.float32).reshape(256, 4, 8, 8)
        for name, value in (("a", a), ("b", b))
    }


@pytest.mark.parametrize("hard", HARD)
def test_a_product_no_constants_reproduce_is_the_sum_of_two_that_some_do(hard):
    assert multiplies.constants(*quantizations(hard)) is None
    assert len(multiplies.parts(*quantizations(hard))) == 2
    model = product(hard)
    package = compile_model(model)
    kinds = [type(step) for step in package.program.instructions]
    assert kinds == [isa.Multiply, isa.Multiply, isa.Map, isa.End]
    result = compare(package, model, all_pairs(hard))
    assert result.compared > 65_536
    assert result.mismatches == 0


@pytest.mark.needs("verilator")
@pytest.mark.timeout(600)
def test_it_is_the_same_in_rtl():
    package = compile_model(product(HARD[0]))
    inputs = {name: value[::64] for name, value in all_pairs(HARD[0]).items()}
    assert simulate.compare(package, inputs).mismatches == 0
