"""Requests that nobody means well: each is answered or refused, none is a failure of ours."""

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit_runtime.errors import RequestError
from edgekit_runtime.serving import open_inference, requests, tensorflow_serving
from edgekit_runtime.serving.files import read_file
from edgekit_runtime.serving.messages import MESSAGES
from edgekit_runtime.serving.tensors import TYPES, TensorSpec


class Echo:
    """Gives back what it gets."""

    version = "1"
    name = "echo"
    platform = "test"

    def __init__(self, datatype: str) -> None:
        self.inputs = (TensorSpec("x", datatype, (-1, 2)),)
        self.outputs = (TensorSpec("y", datatype, (-1, 2)),)

    def run(self, feed: Any, _names: Any) -> Any:
        return [feed["x"]]


models = st.sampled_from(sorted(TYPES)).map(Echo)
shapes = st.lists(st.integers(-2, 4) | st.just(2) | st.integers(0, 2**40), max_size=3)
any_shape = shapes | st.just([1, 2]) | st.just([2, 2])
texts = st.lists(st.binary(max_size=4) | st.just(b"ok"), max_size=4)
small = st.lists(st.integers(-300, 300), max_size=5)
floats = st.lists(st.floats(width=32), max_size=5)
relaxed = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)


def answered_or_refused(ask: Callable[[], Any]) -> Any:
    """What is answered; None where the request is refused. Anything else fails the test."""
    try:
        return ask()
    except RequestError:
        return None


def put(message: Any, field: str, values: Any) -> None:
    try:
        getattr(message, field).extend(values)
    except (ValueError, TypeError):  # protobuf itself lets no such value on the wire
        del getattr(message, field)[:]


@relaxed
@given(models, st.integers(0, 25), any_shape, small, floats, texts, st.data())
def test_predict(
    model: Echo,
    number: int,
    shape: Any,
    integers: Any,
    reals: Any,
    strings: Any,
    data: Any,
) -> None:
    request = MESSAGES["tensorflow.serving.PredictRequest"]()
    tensor = request.inputs[data.draw(st.sampled_from(["x", "x", "x", "z"]))]
    own = tensorflow_serving.TYPES[model.inputs[0].datatype][0]
    tensor.dtype = data.draw(st.sampled_from([own, own, number]))
    for extent in shape:
        tensor.tensor_shape.dim.add(size=extent)
    if data.draw(st.booleans()):
        tensor.tensor_content = data.draw(st.binary(max_size=32))
    for _, field in set(tensorflow_serving.TYPES.values()):
        values = strings if field == "string_val" else reals if "l" in field[:6] else integers
        put(tensor, field, values)
    answered_or_refused(lambda: tensorflow_serving.predict(model, request))


@relaxed
@given(
    models, any_shape, small, floats, texts, st.lists(st.binary(max_size=32), max_size=2), st.data()
)
def test_model_infer(
    model: Echo, shape: Any, integers: Any, reals: Any, strings: Any, raw: Any, data: Any
) -> None:
    request = MESSAGES["inference.ModelInferRequest"](raw_input_contents=raw)
    own = model.inputs[0].datatype
    datatype = data.draw(st.sampled_from([own, own, "FP32", "nonsense"]))
    tensor = request.inputs.add(name="x", datatype=datatype, shape=shape)
    for field in set(open_inference.CONTENTS.values()):
        values = strings if "bytes" in field else reals if "fp" in field else integers
        put(tensor.contents, field, values)
    answered_or_refused(lambda: open_inference.answer(model, request))


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@relaxed
@given(models, any_shape | json_values, json_values, json_values, st.binary(max_size=24), st.data())
def test_json_with_binary_data(
    model: Echo, shape: Any, values: Any, size: Any, binary: bytes, data: Any
) -> None:
    own = model.inputs[0].datatype
    tensor = {"name": "x", "datatype": data.draw(st.sampled_from([own, "FP32"])), "shape": shape}
    if data.draw(st.booleans()):
        tensor["parameters"] = {"binary_data_size": data.draw(st.just(len(binary)) | st.just(size))}
    else:
        tensor["data"] = values
    head = json.dumps(
        {"inputs": [tensor], "outputs": data.draw(st.just([]) | json_values)}
    ).encode()
    length = data.draw(st.just(len(head)) | st.integers(-1, 200))
    answered_or_refused(lambda: requests.answer(model, head + binary, length))


@given(st.sampled_from(sorted(MESSAGES)), st.binary(max_size=64))
def test_bytes_that_are_no_message(name: str, data: bytes) -> None:
    with pytest.raises(DecodeError):
        MESSAGES[name].FromString(b"\xff" * 11 + data)


@given(st.binary(max_size=60), st.integers(0, 100), st.booleans())
def test_files_that_are_none(data: bytes, place: int, whole: bool) -> None:
    spec = TensorSpec("x", "FP32", (-1, 2))
    file = io.BytesIO()
    np.save(file, np.zeros((1, 2), np.float32))
    content = file.getvalue()
    made = content[:place] + data + (content[place:] if whole else b"")
    array = answered_or_refused(lambda: read_file(spec, made))
    assert array is None or array.dtype == np.float32


def test_a_file_that_claims_to_be_huge_is_refused() -> None:
    file = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (2**45,)}
    np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(RequestError, match="does not read"):
        read_file(TensorSpec("x", "FP32", (-1, 2)), file.getvalue())


def test_one_element_does_not_stand_for_a_memory_full() -> None:
    request = MESSAGES["tensorflow.serving.PredictRequest"]()
    tensor = request.inputs["x"]
    tensor.dtype = 1
    tensor.float_val.append(1)
    for extent in (2**40, 2):
        tensor.tensor_shape.dim.add(size=extent)
    with pytest.raises(RequestError, match="send them all"):
        tensorflow_serving.predict(Echo("FP32"), request)
