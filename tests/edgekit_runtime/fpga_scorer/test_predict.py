"""TensorFlow Serving's Predict, as clients of Azure's accelerated models speak it.

The wire: `azureml-accel-models` sends no model name, its token and its service's route as metadata,
arrays as `tensor_content` (single elements as `float_val` and so on), files as `string_val`, and
tries again after any error but INVALID_ARGUMENT.
"""

import io
import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from edgekit_runtime.serving.messages import MESSAGES
from tests.edgekit_runtime.fpga_scorer.conftest import Served, Start, Versions

FLOAT, STRING = 1, 7


@pytest.fixture
def channel(served: Served) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served.grpc) as channel:
        yield channel


def call(channel: grpc.Channel, method: str, request: Any, **metadata: str) -> Any:
    stub = channel.unary_unary(
        f"/tensorflow.serving.PredictionService/{method}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=MESSAGES[f"tensorflow.serving.{method}Response"].FromString,
    )
    sent = [(name.replace("_", "-"), value) for name, value in metadata.items()]
    return stub(request, timeout=30, metadata=sent)


def message(name: str, **fields: Any) -> Any:
    return MESSAGES[f"tensorflow.serving.{name}"](**fields)


def request(image: Any, **fields: Any) -> Any:
    """A request with an array as `tf.make_tensor_proto` writes it."""
    made = message("PredictRequest", **fields)
    made.inputs["x"].dtype = FLOAT
    for extent in image.shape:
        made.inputs["x"].tensor_shape.dim.add(size=extent)
    made.inputs["x"].tensor_content = image.tobytes()
    return made


def array(tensor: Any) -> Any:
    """A tensor as `tf.make_ndarray` reads it."""
    assert tensor.dtype == FLOAT
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    return np.frombuffer(tensor.tensor_content, np.float32).reshape(shape)


def test_an_array_is_scored_without_a_models_name(
    channel: grpc.Channel, versions: Versions
) -> None:
    answer = call(
        channel,
        "Predict",
        request(versions.image),
        authorization="Bearer ",
        x_ms_aml_grpc_service_route="/api/v1/service/other",
    )
    assert list(answer.outputs) == ["y"]
    assert array(answer.outputs["y"]).tolist() == versions.answers["1"].tolist()
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("net", 1)


def test_elements_may_come_one_by_one_the_last_for_all_that_follow(
    channel: grpc.Channel, versions: Versions
) -> None:
    from edgekit_fpga import run

    image = np.full((1, 1, 8, 8), 0.25, np.float32)
    image.ravel()[:3] = [1, -2, 3]
    sent = request(image)
    sent.inputs["x"].tensor_content = b""
    sent.inputs["x"].float_val.extend([1, -2, 3, 0.25])
    made = array(call(channel, "Predict", sent).outputs["y"])
    assert made.tolist() == run(versions.packages["1"], {"x": image})["y"].tolist()


def test_a_file_is_scored(channel: grpc.Channel, versions: Versions) -> None:
    file = io.BytesIO()
    np.save(file, versions.image[0])
    sent = message("PredictRequest")
    sent.inputs["x"].dtype = STRING
    sent.inputs["x"].tensor_shape.dim.add(size=1)
    sent.inputs["x"].string_val.append(file.getvalue())
    made = array(call(channel, "Predict", sent).outputs["y"])
    assert made.tolist() == versions.answers["1"][:1].tolist()


def _file(value: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, value, allow_pickle=True)
    return file.getvalue()


def _string(data: bytes) -> Any:
    sent = message("PredictRequest")
    sent.inputs["x"].dtype = STRING
    sent.inputs["x"].string_val.append(data)
    return sent


def _renamed(image: Any) -> Any:
    sent = request(image)
    sent.inputs["images"].CopyFrom(sent.inputs["x"])
    del sent.inputs["x"]
    return sent


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda image: request(image[:, :, :4]), "shape"),
        (lambda image: request(image.astype(np.float64)), "elements"),
        (lambda image: request(image * np.inf), "not finite"),
        (lambda image: request(image[:0]), "shape"),
        (_renamed, "'x' is missing"),
        (lambda image: request(image, output_filter=["z"]), "no output 'z'"),
        (lambda image: request(image, model_spec={"signature_name": "z"}), "no signature 'z'"),
        (lambda _: _string(b"GIF89a"), "as a .npy file"),
        (lambda _: _string(_file(np.zeros((3, 3), np.float32))), "shape"),
        (lambda _: _string(_file([None])), "does not read"),
        (lambda _: _string(_file(np.zeros((1, 8, 8), complex))), "complex"),
        (lambda _: _string(b"\x93NUMPY\x01\x00\x00"), "does not read"),
    ],
)
def test_what_does_not_fit_is_an_argument_that_no_client_sends_again(
    channel: grpc.Channel, versions: Versions, make: Any, said: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        call(channel, "Predict", make(versions.image))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert said in refused.value.details()


def test_another_version_is_not_found(channel: grpc.Channel, versions: Versions) -> None:
    for spec in ({"name": "net", "version": {"value": 7}}, {"name": "x"}, {"version_label": "a"}):
        with pytest.raises(grpc.RpcError) as refused:
            call(channel, "Predict", request(versions.image, model_spec=spec))
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    spec = {"name": "net", "version": {"value": 1}, "signature_name": "serving_default"}
    call(channel, "Predict", request(versions.image, model_spec=spec, output_filter=["y"]))


def test_metadata_has_the_signature(channel: grpc.Channel) -> None:
    asked = message("GetModelMetadataRequest", metadata_field=["signature_def"])
    answer = call(channel, "GetModelMetadata", asked)
    packed = answer.metadata["signature_def"]
    assert packed.type_url.endswith("/tensorflow.serving.SignatureDefMap")
    signature = message("SignatureDefMap").FromString(packed.value).signature_def["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    assert [dim.size for dim in signature.inputs["x"].tensor_shape.dim] == [-1, 1, 8, 8]
    assert signature.outputs["y"].dtype == FLOAT


def test_among_several_models_the_route_names_one(
    start: Start, versions: Versions, tmp_path: Any
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    versions.install(models / "a", "1", name="a")
    versions.install(models / "b", "2", name="b")
    with start(EDGEKIT_MODEL=str(models)) as served, grpc.insecure_channel(served.grpc) as channel:
        for name, version in (("a", "1"), ("b", "2")):
            route = f"/api/v1/service/{name}"
            answer = call(
                channel, "Predict", request(versions.image), x_ms_aml_grpc_service_route=route
            )
            assert versions.gives(version, array(answer.outputs["y"]))
        with pytest.raises(grpc.RpcError) as refused:
            call(channel, "Predict", request(versions.image))
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "name a model: a, version 1, b, version 2" in refused.value.details()


# what a user of Azure's accelerated models has: nothing in it is ours
CLIENT = """
import json, sys, numpy
from azureml.accel import PredictionClient

address, port, token, image, file = sys.argv[1:]
client = PredictionClient(address, int(port), access_token=token, service_name="digits")
images = numpy.load(image)
print(json.dumps([
    client.score_numpy_arrays({"x": images}).tolist(),
    client.score_numpy_arrays({"x": images}, outputs="y").tolist(),
    client.score_file(file, input_name="x", outputs="y").tolist(),
]))
"""


@pytest.mark.needs("azureml-accel-models")
@pytest.mark.timeout(300)
def test_azures_own_client_gets_its_answers(
    start: Start, versions: Versions, tmp_path: Any
) -> None:
    np.save(tmp_path / "images.npy", versions.image)
    np.save(tmp_path / "one.npy", versions.image[0])
    with start(EDGEKIT_TOKEN="letmein") as served:
        done = subprocess.run(
            [os.environ["EDGEKIT_ACCEL_PYTHON"], "-c", CLIENT, served.host, "8081", "letmein",
             tmp_path / "images.npy", tmp_path / "one.npy"],
            capture_output=True, text=True, timeout=200,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = versions.answers["1"].tolist()
    assert json.loads(done.stdout.splitlines()[-1]) == [expected, expected, expected[0]]
