from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgekit.errors import ModelError
from edgekit.registry import TensorSpec
from edgekit.registry.onnxfile import MAX_BYTES, check_graph, read_contents
from edgekit.registry.records import Signature


def read_signature(path: Path) -> Signature:
    """The signature of a file that is checked as a whole."""
    contents = read_contents(path)
    check_graph(path)
    return contents.signature


def write(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def graph_with(weights: TensorProto) -> onnx.ModelProto:
    """Y = x + w, on float32 [3]."""
    return helper.make_model(
        helper.make_graph(
            [helper.make_node("Add", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
            [weights],
        )
    )


def external(place: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    return tensor


def constant() -> TensorProto:
    return onnx.numpy_helper.from_array(np.ones(3, np.float32), "w")


def test_the_digits_net_takes_an_image_and_yields_logits(digits: Path) -> None:
    signature = read_signature(digits)

    assert signature.inputs == (TensorSpec("image", "float32", ("N", 1, 8, 8)),)
    assert signature.outputs == (TensorSpec("logits", "float32", ("N", 10)),)


def test_constants_declared_as_inputs_are_no_inputs(tmp_path: Path) -> None:
    model = graph_with(constant())
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3]))

    signature = read_signature(write(tmp_path / "m.onnx", model))

    assert [spec.name for spec in signature.inputs] == ["x"]


@pytest.mark.parametrize("place", ["/etc/passwd", "../secret", "a/../../secret"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(ModelError, match="from outside its folder"):
        read_signature(write(tmp_path / "m.onnx", graph_with(external(place))))


def test_files_with_weights_are_named_with_the_bytes_they_must_have(tmp_path: Path) -> None:
    weights = external("parts/w.bin")
    weights.external_data.add(key="offset", value="4096")
    weights.external_data.add(key="length", value="12")

    contents = read_contents(write(tmp_path / "m.onnx", graph_with(weights)))

    assert contents.weights == {"parts/w.bin": 4108}


@pytest.mark.parametrize("place", ["model.json", "model.onnx", "m.onnx"])
def test_weights_where_an_image_keeps_something_else_are_refused(
    tmp_path: Path, place: str
) -> None:
    with pytest.raises(ModelError, match="which images need"):
        read_contents(write(tmp_path / "m.onnx", graph_with(external(place))))


@pytest.mark.parametrize("place", ["", ".", "a//b", "a\\b", "a\nb", "./w"])
def test_weights_at_no_clear_place_are_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(ModelError, match="does not say where"):
        read_contents(write(tmp_path / "m.onnx", graph_with(external(place))))


def test_an_offset_that_is_no_number_is_refused(tmp_path: Path) -> None:
    weights = external("w.bin")
    weights.external_data.add(key="offset", value="far")

    with pytest.raises(ModelError, match="does not say where"):
        read_contents(write(tmp_path / "m.onnx", graph_with(weights)))


def test_weights_outside_are_found_inside_a_nested_graph(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["y"], value=external("../w"))],
        "inner",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
    )
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)],
            "outer",
            [helper.make_tensor_value_info("c", TensorProto.BOOL, [])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
        )
    )

    with pytest.raises(ModelError, match="from outside its folder"):
        read_signature(write(tmp_path / "m.onnx", model))


def test_a_graph_with_a_cycle_is_refused(tmp_path: Path) -> None:
    model = graph_with(constant())
    model.graph.node[0].input[0] = "y"

    with pytest.raises(ModelError, match="no valid ONNX"):
        read_signature(write(tmp_path / "m.onnx", model))


def test_an_empty_file_is_no_onnx(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch()

    with pytest.raises(ModelError, match="no graph"):
        read_signature(tmp_path / "m.onnx")


def test_a_file_of_three_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as file:
        file.truncate(3 * 10**9)

    with pytest.raises(ModelError, match=f"3,000,000,000 bytes; .* at most {MAX_BYTES:,}"):
        read_signature(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 163657), noise=st.binary(min_size=1, max_size=64))
def test_a_damaged_model_is_read_or_refused_in_one_line(
    digits: Path, tmp_path: Path, start: int, noise: bytes
) -> None:
    data = digits.read_bytes()
    path = tmp_path / "m.onnx"
    path.write_bytes(data[:start] + noise + data[start + len(noise) :])

    refused = ""
    try:
        signature = read_signature(path)
    except ModelError as error:
        refused = str(error)

    assert "\n" not in refused
    assert refused or signature.outputs


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)

    with pytest.raises(ModelError) as caught:
        read_signature(path)

    assert "\n" not in str(caught.value)
