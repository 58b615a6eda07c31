"""What every door of a scorer holds to: tokens, TLS, the queue, measurements, the end."""

import datetime
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tritonclient.utils import InferenceServerException

REQUEST = {
    "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 0, 0, 0.5]}],
}

Start = Callable[..., AbstractContextManager[subprocess.Popen[bytes]]]


@pytest.fixture
def start(model_folder: Path, loopback: str, program: Any, until: Any) -> Start:
    """Starts a scorer with gRPC on the small model."""

    @contextmanager
    def start(**settings: str) -> Iterator[subprocess.Popen[bytes]]:
        environment = {
            "EDGEKIT_MODEL": str(model_folder),
            "EDGEKIT_BIND": loopback,
            "EDGEKIT_GRPC_PORT": "8081",
            **settings,
        }
        with program("edgekit_runtime", "scorer", **environment) as process:
            import socket

            def listens() -> bool:
                assert process.poll() is None, process.stderr.read()
                with socket.socket() as http, socket.socket() as grpc_:
                    return (
                        http.connect_ex((loopback, 8080)) == 0
                        and grpc_.connect_ex((loopback, 8081)) == 0
                    )

            until(listens)
            yield process

    return start


def ask(client: Any, **more: Any) -> Any:
    tensor = tritonclient.grpc.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.array([[1, 0, 0, 0.5]], np.float32))
    return client.infer("small", [tensor], **more)


def test_the_scorer_speaks_grpc_as_well(start: Start, loopback: str) -> None:
    with start(), tritonclient.grpc.InferenceServerClient(f"{loopback}:8081") as client:
        answer = ask(client)
        assert answer.as_numpy("y").tolist() == [[-3.0, -1.5, 0.0]]
        assert answer.as_numpy("label").tolist() == [2]
        wanted = [tritonclient.grpc.InferRequestedOutput("label")]
        assert ask(client, outputs=wanted).as_numpy("y") is None


def typed_request(**changes: Any) -> bytes:
    """A request whose elements are in `contents`, by Triton's generated code."""
    from tritonclient.grpc import service_pb2

    made = service_pb2.ModelInferRequest(model_name="small")
    tensor = made.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    tensor.contents.fp32_contents.extend([1, 0, 0, 0.5])
    for name, value in changes.items():
        if name == "values":
            del tensor.contents.fp32_contents[:]
            tensor.contents.fp32_contents.extend(value)
        elif name == "shape":
            del tensor.shape[:]
            tensor.shape.extend(value)
        else:
            setattr(tensor, name, value)
    return bytes(made.SerializeToString())


def call(host: str, request: bytes, **metadata: str) -> Any:
    from tritonclient.grpc import service_pb2

    with grpc.insecure_channel(f"{host}:8081") as channel:
        stub = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )
        return stub(request, timeout=30, metadata=list(metadata.items()))


def test_typed_contents_are_answered_so(start: Start, loopback: str) -> None:
    with start():
        answer = call(loopback, typed_request())
        assert list(answer.outputs[0].contents.fp32_contents) == [-3.0, -1.5, 0.0]
        assert list(answer.outputs[1].contents.int64_contents) == [2]
        assert list(answer.raw_output_contents) == []
        for request in (
            typed_request(values=[1, 2]),
            typed_request(shape=[4]),
            typed_request(shape=[-1, 4]),
            typed_request(datatype="FP64"),
            typed_request(datatype="FP7"),
            typed_request(name="z"),
            b"\xff\xff",
        ):
            with pytest.raises(grpc.RpcError) as refused:
                call(loopback, request)
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_without_the_token_only_health_answers(start: Start, loopback: str, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("old-one\nnew-one\n")
    with (
        start(EDGEKIT_TOKEN_FILE=str(tmp_path / "tokens")) as process,
        httpx.Client(base_url=f"http://{loopback}:8080") as client,
        tritonclient.grpc.InferenceServerClient(f"{loopback}:8081") as triton,
    ):
        assert client.get("/v2/health/live").status_code == 200
        assert client.get("/v2/health/ready").status_code == 200
        assert triton.is_server_ready()
        paths = ("/v2", "/metrics", "/v2/models/small", "/v2/models/other", "/nothing")
        for wrong in ({}, {"authorization": "Bearer old-on"}, {"authorization": "Basic old-one"}):
            for path in paths:
                refused = client.get(path, headers=wrong)
                assert refused.status_code == 401
                assert refused.headers["www-authenticate"] == "Bearer"
            with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
                ask(triton, headers=wrong)
        for token in ("old-one", "new-one"):
            right = {"authorization": f"Bearer {token}"}
            reply = client.post("/v2/models/small/infer", json=REQUEST, headers=right)
            assert reply.status_code == 200
            assert ask(triton, headers=right).as_numpy("label").tolist() == [2]
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
        assert b"-one" not in log


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"EDGEKIT_TOKEN_FILE": "/nowhere"}, "EDGEKIT_TOKEN_FILE /nowhere does not read"),
        ({"EDGEKIT_TOKEN_FILE": "/dev/null"}, "holds no token"),
        ({"EDGEKIT_TLS_CERT": "/nowhere"}, "go together"),
        ({"EDGEKIT_TLS_CERT": "/nowhere", "EDGEKIT_TLS_KEY": "/nowhere"}, "does not load"),
        ({"EDGEKIT_GRPC_PORT": "99999"}, "out of range"),
        ({"EDGEKIT_GRPC_PORT": "8080"}, "for gRPC"),
    ],
)
def test_a_mistake_is_one_line(
    program: Any, model_folder: Path, loopback: str, settings: dict[str, str], said: str
) -> None:
    about = {"EDGEKIT_MODEL": str(model_folder), "EDGEKIT_BIND": loopback, **settings}
    with program("edgekit_runtime", "scorer", **about) as process:
        _, log = process.communicate(timeout=30)
    assert process.returncode == 1
    complaint = [line for line in log.decode().splitlines() if " ERROR " in line]
    assert len(complaint) == 1
    assert said in complaint[0]
    assert "Traceback" not in log.decode()


class Authority:
    """A certificate authority for one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.certificate = self._sign(self.name, self.key, self.name, ca=True)
        self._write("ca.pem", self.certificate.public_bytes(serialization.Encoding.PEM))

    def _write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def _sign(self, subject: Any, key: Any, issuer: Any, ca: bool, host: str = "") -> Any:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if host:
            import ipaddress

            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, name: str, host: str = "") -> tuple[Path, Path]:
        """Files with a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key, self.name, ca=False, host=host)
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        return self._write(f"{name}.pem", pem), self._write(f"{name}.key", secret)


def test_tls_wants_the_clients_certificate_where_it_is_told(
    start: Start, loopback: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", loopback)
    mine, my_key = authority.issue("client")
    ca = tmp_path / "ca.pem"
    settings = {
        "EDGEKIT_TLS_CERT": str(certificate),
        "EDGEKIT_TLS_KEY": str(key),
        "EDGEKIT_TLS_CLIENT_CA": str(ca),
    }
    with start(**settings):
        context = ssl.create_default_context(cafile=str(ca))
        with (
            httpx.Client(verify=context) as stranger,
            pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)),
        ):
            stranger.get(f"https://{loopback}:8080/v2/health/live")
        context.load_cert_chain(mine, my_key)
        with httpx.Client(verify=context) as client:
            assert client.get(f"https://{loopback}:8080/v2/health/live").json() == {"live": True}
        about: dict[str, Any] = {"ssl": True, "root_certificates": str(ca)}
        with (
            tritonclient.grpc.InferenceServerClient(f"{loopback}:8081", **about) as triton,
            pytest.raises(InferenceServerException, match="UNAVAILABLE"),
        ):
            ask(triton)
        about |= {"private_key": str(my_key), "certificate_chain": str(mine)}
        with tritonclient.grpc.InferenceServerClient(f"{loopback}:8081", **about) as triton:
            assert ask(triton).as_numpy("label").tolist() == [2]


def test_a_full_queue_turns_away_and_serves_on(start: Start, loopback: str) -> None:
    big = np.zeros((200_000, 4), np.float32)
    tensor = {"name": "x", "shape": list(big.shape), "datatype": "FP32", "data": big.tolist()}
    body = httpx.Request("POST", "http://x", json={"inputs": [tensor]}).content
    statuses: list[int] = []
    codes: list[str] = []

    end = time.monotonic() + 60

    def send() -> None:
        """Keep the queue full until both doors have turned somebody away."""
        while not (codes and 503 in statuses) and time.monotonic() < end:
            reply = httpx.post(
                f"http://{loopback}:8080/v2/models/small/infer", content=body, timeout=60
            )
            statuses.append(reply.status_code)
            if reply.status_code == 503:
                assert reply.headers["retry-after"] == "1"

    with start(EDGEKIT_QUEUE="1"):
        threads = [threading.Thread(target=send) for _ in range(6)]
        for thread in threads:
            thread.start()
        with tritonclient.grpc.InferenceServerClient(f"{loopback}:8081") as client:
            while any(thread.is_alive() for thread in threads):
                try:
                    ask(client)
                except InferenceServerException as error:
                    codes.append(error.status())
        for thread in threads:
            thread.join()
        text = httpx.get(f"http://{loopback}:8080/metrics").text
    assert set(statuses) == {200, 503}
    assert set(codes) == {"StatusCode.RESOURCE_EXHAUSTED"}
    assert counted(text, "edgekit_requests_total", door="rest", outcome="overloaded") == (
        statuses.count(503)
    )
    assert counted(text, "edgekit_requests_total", door="grpc", outcome="overloaded") == len(codes)


def counted(text: str, name: str, **labels: str) -> float:
    """The value of a sample in Prometheus' text format, by Prometheus' own parser."""
    from prometheus_client.parser import text_string_to_metric_families

    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_requests_are_counted_by_door_and_outcome(start: Start, loopback: str) -> None:
    with start(), httpx.Client(base_url=f"http://{loopback}:8080") as client:
        for _ in range(3):
            client.post("/v2/models/small/infer", json=REQUEST)
        client.post("/v2/models/small/infer", json={})
        with tritonclient.grpc.InferenceServerClient(f"{loopback}:8081") as triton:
            ask(triton)
        reply = client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    text = reply.text
    assert counted(text, "edgekit_requests_total", door="rest", outcome="ok") == 3
    assert counted(text, "edgekit_requests_total", door="rest", outcome="refused") == 1
    assert counted(text, "edgekit_requests_total", door="grpc", outcome="ok") == 1
    assert counted(text, "edgekit_request_seconds_count", model="small", version="3") == 4
    assert counted(text, "edgekit_model_served", model="small") == 1
    assert counted(text, "edgekit_ready") == 1


def test_what_is_under_way_is_answered_before_the_end(start: Start, loopback: str) -> None:
    big = np.zeros((200_000, 4), np.float32)
    got: list[Any] = []

    def send() -> None:
        with tritonclient.grpc.InferenceServerClient(f"{loopback}:8081") as client:
            tensor = tritonclient.grpc.InferInput("x", list(big.shape), "FP32")
            tensor.set_data_from_numpy(big)
            got.append(client.infer("small", [tensor]).as_numpy("label").shape)

    with start() as process, httpx.Client(base_url=f"http://{loopback}:8080") as client:
        thread = threading.Thread(target=send)
        thread.start()
        while counted(client.get("/metrics").text, "edgekit_queue_waiting") < 1:
            if not thread.is_alive():
                break
        process.send_signal(signal.SIGTERM)
        thread.join()
        assert process.wait(20) == 0
    assert got == [(200_000,)]
