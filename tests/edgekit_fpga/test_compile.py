import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType

from edgekit_fpga import compare, compile_model, run
from edgekit_fpga.boards import board_names, load_board
from edgekit_fpga.compiler import import_model, passes_for
from edgekit_fpga.compiler.execute import execute
from edgekit_fpga.errors import BoardError, GraphError, InputError, Refused
from tests.edgekit_fpga.graphs import small_net


@pytest.fixture(scope="module")
def net():
    return small_net(seed=0)


def images(count, seed=1):
    return {"x": np.random.default_rng(seed).normal(size=(count, 1, 8, 8)).astype(np.float32)}


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("activations", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize("form", ["qop", "qdq"])
def test_every_layer_is_bit_equal_to_onnx_runtime(form, activations, per_channel):
    model = small_net(3, form, activations, per_channel)
    comparison = compare(compile_model(model), model, images(20))
    assert comparison.mismatches == 0
    assert len(comparison.tensors) >= 8


@pytest.mark.parametrize("board", board_names())
def test_every_board_computes_the_same(net, board):
    comparison = compare(compile_model(net, board), net, images(5))
    assert comparison.mismatches == 0


def test_every_pass_leaves_the_remaining_tensors_as_they_were(net):
    graph = import_model(net).graph
    random = np.random.default_rng(2)
    inputs = {
        name: random.integers(-128, 128, (3, *graph.tensors[name].shape), np.int8)
        for name in graph.inputs
    }
    before = execute(graph, inputs)
    for _, transform in passes_for(load_board("ecp5-85f")):
        graph = transform(graph)
        after = execute(graph, inputs)
        assert set(graph.outputs) <= set(after)
        for name in set(before) & set(after):
            assert np.array_equal(after[name], before[name]), name


def test_the_residual_add_and_the_average_are_fused(net):
    program = compile_model(net).program
    assert [trace.node for trace in program.traces if trace.add] != []
    assert [bool(trace.pool) for trace in program.traces].count(True) == 1
    assert len(program.instructions) == 7


def test_a_difference_stays_one_when_what_is_subtracted_comes_last():
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("MaxPool", ["q"], ["m"], kernel_shape=[1, 1], strides=[2, 2]),
        helper.make_node("MaxPool", ["q"], ["n"], kernel_shape=[1, 1], strides=[2, 2]),
        helper.make_node("DequantizeLinear", ["m", "s", "z"], ["first"]),
        helper.make_node("DequantizeLinear", ["n", "s", "z"], ["second"]),
        helper.make_node("Relu", ["second"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["rq"]),
        helper.make_node("DequantizeLinear", ["rq", "s", "z"], ["third"]),
        helper.make_node("Sub", ["first", "third"], ["d"]),
        helper.make_node("QuantizeLinear", ["d", "s", "z"], ["dq"]),
        helper.make_node("DequantizeLinear", ["dq", "s", "z"], ["y"]),
    ]
    model = graph_of(nodes, (4, 8, 8))
    values = np.random.default_rng(3).normal(scale=6, size=(2, 4, 8, 8)).astype(np.float32)
    package = compile_model(model)
    assert any(trace.add for trace in package.program.traces)
    assert compare(package, model, {"x": values}).mismatches == 0


def test_exact_integers_give_what_float32_gives(net):
    package = compile_model(net)
    inputs = images(4)
    assert np.array_equal(run(package, inputs)["y"], run(package, inputs, exact=True)["y"])


def test_a_large_batch_is_run_and_compared_in_parts(net):
    package = compile_model(net)
    inputs = images(150)
    parts = [run(package, {"x": inputs["x"][i : i + 1]})["y"] for i in range(150)]
    assert np.array_equal(run(package, inputs)["y"], np.concatenate(parts))
    one, all_of_them = compare(package, net, images(1)), compare(package, net, inputs)
    assert all_of_them.mismatches == 0
    assert all_of_them.compared == 150 * one.compared
    assert all_of_them.tensors.keys() == one.tensors.keys()


def test_nothing_is_not_compared(net):
    with pytest.raises(InputError, match="the model takes x; given was nothing"):
        compare(compile_model(net), net, {})


def test_compiling_twice_gives_the_same_bytes(net):
    assert compile_model(net).to_bytes() == compile_model(net).to_bytes()


def test_the_manifest_counts_the_model(net):
    manifest = compile_model(net).manifest
    convolutions = 64 * 12 * 9 * 2 + 64 * 12 * 12 + 16 * 20 * 12 * 9
    assert manifest["macs"] == convolutions + 10 * 20
    assert manifest["cycles"]["total"] * load_board("ecp5-85f").array.macs > manifest["macs"]
    assert [stage["type"] for stage in manifest["stages"]] == ["cpu", "npu", "cpu"]
    assert manifest["proof"]["pairs"] == 65536


@pytest.mark.parametrize("data", [b"", b"hello", b"\x00" * 100, b"\x08\x07"])
def test_a_file_that_is_no_onnx_is_refused(data):
    with pytest.raises(GraphError, match="no ONNX model"):
        compile_model(data)


def test_a_model_too_large_for_the_board_is_refused():
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"])]
    nodes += [helper.make_node("MaxPool", ["q"], ["m"], kernel_shape=[2, 2], strides=[2, 2])]
    nodes += [helper.make_node("DequantizeLinear", ["m", "s", "z"], ["y"])]
    model = graph_of(nodes, (64, 128, 128))
    with pytest.raises(BoardError, match="activations need 1310720 bytes, ice40-up5k has 65536"):
        compile_model(model, "ice40-up5k")


def graph_of(nodes, shape):
    constants = [
        helper.make_tensor("s", TensorProto.FLOAT, [], [0.1]),
        helper.make_tensor("nan", TensorProto.FLOAT, [], [float("nan")]),
        helper.make_tensor("z", TensorProto.INT8, [], [0]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return model.SerializeToString()


def test_all_that_cannot_be_done_is_said_at_once():
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("LSTM", ["d"], ["l"], name="memory"),
        helper.make_node("QuantizeLinear", ["d", "nan", "z"], ["e"], name="odd"),
        helper.make_node("Add", ["l", "e"], ["y"], name="never"),
    ]
    with pytest.raises(Refused) as refusal:
        compile_model(graph_of(nodes, (4, 4, 4)))
    assert [(p.node, p.operator) for p in refusal.value.problems] == [
        ("memory", "LSTM"),
        ("odd", "QuantizeLinear"),
    ]
    assert "nan is not a positive number" in str(refusal.value)


def test_a_graph_with_a_cycle_is_refused():
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="second"),
        helper.make_node("Identity", ["b"], ["y"]),
    ]
    with pytest.raises(GraphError, match=r"first \(Add\) reads b before it is made"):
        compile_model(graph_of(nodes, (4, 4, 4)))


def test_an_input_without_fixed_sizes_is_refused(net):
    model = onnx.load_model_from_string(net)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    with pytest.raises(GraphError, match="input x has the shape"):
        compile_model(model.SerializeToString())
