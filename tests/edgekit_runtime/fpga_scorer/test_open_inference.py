"""The Open Inference Protocol V2 with Triton's own clients."""

from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from tests.edgekit_runtime.fpga_scorer.conftest import Served, Versions


def ask(kind: Any, client: Any, image: Any, **more: Any) -> Any:
    tensor = kind.InferInput("x", list(image.shape), "FP32")
    tensor.set_data_from_numpy(image)
    return client.infer("net", [tensor], request_id="seven", **more)


@pytest.mark.parametrize("kind", [tritonclient.grpc, tritonclient.http], ids=["grpc", "rest"])
def test_tritons_clients_get_the_packages_answers(
    kind: Any, served: Served, versions: Versions
) -> None:
    address = served.grpc if kind is tritonclient.grpc else f"{served.host}:8080"
    with kind.InferenceServerClient(address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("net", "1")
        answer = ask(kind, client, versions.image)
        assert answer.as_numpy("y").tolist() == versions.answers["1"].tolist()
        assert answer.as_numpy("y").dtype == np.float32
        for refused in (versions.image[:, :, :4], versions.image * np.nan):
            with pytest.raises(InferenceServerException):
                ask(kind, client, refused)
        with pytest.raises(InferenceServerException, match="net, version 1"):
            ask(kind, client, versions.image, model_version="9")


def test_metadata_over_grpc(served: Served) -> None:
    with tritonclient.grpc.InferenceServerClient(served.grpc) as client:
        assert client.get_model_metadata("net", as_json=True) == {
            "name": "net",
            "versions": ["1"],
            "platform": "edgekit_npu",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", "1", "8", "8"]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": ["-1", "10"]}],
        }
        assert client.get_server_metadata().name == "edgekit"
        assert not client.is_model_ready("net", "2")


def test_json_and_binary_tensors_mix(served: Served, versions: Versions) -> None:
    """A request in plain JSON may ask for a binary answer."""
    with tritonclient.http.InferenceServerClient(f"{served.host}:8080") as client:
        tensor = tritonclient.http.InferInput("x", [2, 1, 8, 8], "FP32")
        tensor.set_data_from_numpy(versions.image, binary_data=False)
        for binary in (True, False):
            wanted = tritonclient.http.InferRequestedOutput("y", binary_data=binary)
            answer = client.infer("net", [tensor], outputs=[wanted])
            assert answer.as_numpy("y").tolist() == versions.answers["1"].tolist()


@pytest.mark.parametrize(
    ("length", "message"),
    [("x", "no number"), ("999", "the JSON is 999 bytes"), ("2", "inputs is missing")],
)
def test_a_wrong_header_length_is_refused(served: Served, length: str, message: str) -> None:
    reply = served.http.post(
        "/v2/models/net/infer",
        content=b"{}abc",
        headers={"inference-header-content-length": length},
    )
    assert (reply.status_code, message in reply.json()["error"]) == (400, True)


@pytest.mark.parametrize("size", [-1, 511, 513, True, "512"])
def test_a_wrong_binary_size_is_refused(served: Served, size: Any) -> None:
    import json

    tensor = {
        "name": "x",
        "datatype": "FP32",
        "shape": [2, 1, 8, 8],
        "parameters": {"binary_data_size": size},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    reply = served.http.post(
        "/v2/models/net/infer",
        content=head + bytes(512),
        headers={"inference-header-content-length": str(len(head))},
    )
    assert reply.status_code == 400
    assert served.http.get("/v2/health/live").status_code == 200
