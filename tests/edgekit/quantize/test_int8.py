import json
import logging
import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from edgekit.errors import QuantizeError
from edgekit.quantize import accuracy, quantize
from edgekit.quantize.int8 import float_nodes
from edgekit.quantize.runtime import run, session

from .conftest import DIGITS, Arrays, Build


@pytest.fixture(scope="module")
def int8(digits: bytes, calibration: Arrays) -> bytes:
    return quantize(digits, calibration)


def test_every_compute_operator_is_an_integer_one(int8: bytes) -> None:
    graph = onnx.load_model_from_string(int8).graph

    assert Counter(node.op_type for node in graph.node) == {
        "QuantizeLinear": 1,
        "QLinearConv": 5,
        "MaxPool": 1,
        "QLinearAdd": 1,
        "QLinearGlobalAveragePool": 1,
        "Flatten": 1,
        "QGemm": 1,
        "DequantizeLinear": 1,
    }
    assert [graph.node[0].op_type, graph.node[-1].op_type] == ["QuantizeLinear", "DequantizeLinear"]


def test_weights_are_int8_with_a_scale_for_each_channel(int8: bytes) -> None:
    graph = onnx.load_model_from_string(int8).graph
    constants = {value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer}

    for node in graph.node:
        if node.op_type != "QLinearConv":
            continue
        weights, scale, zero = (constants[name] for name in node.input[3:6])
        bias = constants[node.input[8]]
        assert weights.dtype == np.int8
        assert scale.shape == zero.shape == bias.shape == weights.shape[:1]
        assert not zero.any()
        assert bias.dtype == np.int32
        assert constants[node.input[2]].dtype == np.int8


def test_inputs_and_outputs_stay_as_they_were(digits: bytes, int8: bytes) -> None:
    before, after = (onnx.load_model_from_string(data).graph for data in (digits, int8))

    assert list(after.input) == list(before.input)
    assert list(after.output) == list(before.output)


def test_the_digits_net_keeps_its_accuracy(digits: bytes, int8: bytes, held_back: Arrays) -> None:
    measured = json.loads((DIGITS / "accuracy.json").read_text())
    images, labels = {"image": held_back["image"]}, held_back["labels"]

    # another processor may round a close call the other way: one image, or two in int8
    assert accuracy(digits, images, labels) == pytest.approx(measured["float"], abs=0.003)
    assert accuracy(int8, images, labels) == pytest.approx(measured["int8"], abs=0.006)


def test_the_same_input_gives_the_same_bytes(
    digits: bytes, calibration: Arrays, int8: bytes
) -> None:
    assert quantize(digits, calibration) == int8


def test_float_is_approximated_within_a_step(build: Build) -> None:
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    model = build(
        [make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])], [3, 6, 6], {"w": weights}
    )
    x = rng.uniform(-1, 1, size=(64, 3, 6, 6)).astype(np.float32)

    expected = run(session(model), {"x": x})["y"]
    actual = run(session(quantize(model, {"x": x})), {"x": x})["y"]

    step = (expected.max() - expected.min()) / 255
    assert np.abs(actual - expected).max() < 4 * step


def test_an_operator_without_an_integer_form_is_named(build: Build) -> None:
    model = build(
        [
            make_node("Relu", ["x"], ["r"]),
            make_node("Erf", ["r"], ["e"], name="curve"),
            make_node("MatMul", ["e", "w"], ["y"]),
        ],
        [4],
        {"w": np.ones((4, 2), np.float32)},
    )

    with pytest.raises(QuantizeError, match=r"no integer form for .*curve \(Erf\)"):
        quantize(model, {"x": np.ones((2, 4), np.float32)})


def test_a_quantized_model_is_not_quantized_again(int8: bytes, calibration: Arrays) -> None:
    with pytest.raises(QuantizeError, match="quantized already"):
        quantize(int8, calibration)


def test_what_is_no_onnx_is_refused() -> None:
    with pytest.raises(QuantizeError, match="not an ONNX graph"):
        quantize(b"nonsense", {})


def test_float_nodes_are_those_between_float_tensors() -> None:
    nodes = [
        make_node("QuantizeLinear", ["x", "s"], ["q"]),
        make_node("MaxPool", ["q"], ["p"], kernel_shape=[2]),
        make_node("DequantizeLinear", ["p", "s"], ["d"]),
        make_node("Exp", ["d"], ["e"]),
        make_node("Log", ["e"], ["y"]),
    ]
    graph = onnx.helper.make_graph(
        nodes, "g", [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4])], []
    )

    assert [node.op_type for node in float_nodes(onnx.helper.make_model(graph))] == ["Exp", "Log"]


def test_nothing_is_written_to_stdout_or_stderr() -> None:
    program = (
        "import numpy; from pathlib import Path; from edgekit.quantize import quantize;"
        f"folder = Path({str(DIGITS)!r});"
        "images = numpy.load(folder / 'calibration.npz')['image'];"
        "quantize((folder / 'digits.onnx').read_bytes(), {'image': images})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_root_logger_is_left_as_it_was(digits: bytes, calibration: Arrays) -> None:
    root = logging.getLogger()
    before = list(root.handlers), list(root.filters)

    quantize(digits, calibration)

    assert (root.handlers, root.filters) == before
