"""The FPGA scorer with the digits net in the interpreter: requests, processor time, memory, start.

    python benchmarks/fpga_scorer.py [--requests 2000]

One client sends one image after the other on one connection: over REST in JSON and with binary
tensors, over gRPC in the Open Inference Protocol and in TensorFlow Serving's Predict. `cpu` is the
server's own processor time for a request (user and system), which other programs on the machine
change less than the wall clock; `of bare` holds it against the driver called in this process. The
last lines are the scorer with ONNX Runtime on the same int8 graph.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
for folder in ("", "modules", "fpga", "simulators"):
    sys.path.insert(0, str(ROOT / folder))

import grpc  # noqa: E402
import numpy as np  # noqa: E402

from edgekit.quantize import quantize  # noqa: E402
from edgekit_fpga import compile_model  # noqa: E402
from edgekit_fpga.driver import open_driver  # noqa: E402
from edgekit_runtime.serving.messages import MESSAGES  # noqa: E402
from edgekit_sim.demo.digits import load  # noqa: E402

HOST, HTTP, GRPC = "127.0.0.1", 8980, 8981
TICK = os.sysconf("SC_CLK_TCK")
Send = Callable[[], bytes]


def processor_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def megabytes(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@contextmanager
def serving(role: str, model: Path) -> Iterator[tuple[int, float]]:
    """A scorer as a process; its id, and the processor seconds it took to be ready."""
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}/modules:{ROOT}/fpga",
        "EDGEKIT_MODEL": str(model),
        "EDGEKIT_BIND": HOST,
        "EDGEKIT_HTTP_PORT": str(HTTP),
        "EDGEKIT_GRPC_PORT": str(GRPC),
        "EDGEKIT_LOG": "ERROR",
    }
    command = [sys.executable, "-m", "edgekit_runtime", role]
    process = subprocess.Popen(command, env=environment)
    try:
        while socket.socket().connect_ex((HOST, GRPC)):
            if process.poll() is not None:
                sys.exit("the scorer did not start")
            time.sleep(0.01)
        yield process.pid, processor_seconds(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextmanager
def rest(body: bytes, headers: str = "") -> Iterator[Send]:
    """Sends one request over and over on one connection."""
    request = (
        f"POST /v2/models/digits/infer HTTP/1.1\r\nhost: x\r\n{headers}"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body
    with socket.create_connection((HOST, HTTP)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def send() -> bytes:
            connection.sendall(request)
            answer = connection.recv(65536)
            if not answer.startswith(b"HTTP/1.1 200"):
                sys.exit(answer.decode())
            return answer

        yield send


@contextmanager
def calling(method: str, request: Any) -> Iterator[Send]:
    """Calls one gRPC method over and over on one channel."""
    with grpc.insecure_channel(f"{HOST}:{GRPC}") as channel:
        call = channel.unary_unary(method)
        message = request.SerializeToString()
        yield lambda: call(message)


def doors(image: Any) -> dict[str, Any]:
    """What is measured, by name."""
    tensor = {"name": "image", "datatype": "FP32", "shape": list(image.shape)}
    plain = json.dumps({"inputs": [{**tensor, "data": image.ravel().tolist()}]}).encode()
    head = json.dumps(
        {
            "inputs": [{**tensor, "parameters": {"binary_data_size": image.nbytes}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    infer = MESSAGES["inference.ModelInferRequest"](
        model_name="digits", raw_input_contents=[image.tobytes()]
    )
    infer.inputs.add(**tensor)
    predict = MESSAGES["tensorflow.serving.PredictRequest"]()
    predict.inputs["image"].dtype = 1
    predict.inputs["image"].tensor_content = image.tobytes()
    for extent in image.shape:
        predict.inputs["image"].tensor_shape.dim.add(size=extent)
    return {
        "REST, JSON": rest(plain),
        "REST, binary": rest(
            head + image.tobytes(), f"inference-header-content-length: {len(head)}\r\n"
        ),
        "gRPC ModelInfer": calling("/inference.GRPCInferenceService/ModelInfer", infer),
        "gRPC Predict": calling("/tensorflow.serving.PredictionService/Predict", predict),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000)
    requests = parser.parse_args().requests
    digits = load()
    with np.load(digits.calibration) as calibration:
        graph = quantize(digits.model.read_bytes(), dict(calibration))
    package, image = compile_model(graph), digits.images[:1]
    driver = open_driver()
    driver.run(package, {"image": image})
    begin = time.process_time()
    for _ in range(requests):
        driver.run(package, {"image": image})
    bare = (time.process_time() - begin) / requests
    print(f"{'':32} {'requests/s':>10} {'cpu us':>8} {'of bare':>8}")
    print(f"{'driver, no server':32} {1 / bare:10,.0f} {1e6 * bare:8,.0f} {1:8.2f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model.json").write_text(json.dumps({"name": "digits", "version": 1}))
        (folder / "model.onnx").write_bytes(graph)
        package.save(folder / "model.npu")
        for role in ("fpga-scorer", "scorer"):
            with serving(role, folder) as (pid, start):
                for door, opened in doors(image).items():
                    with opened as send:
                        for _ in range(50):
                            send()
                        first, begin = processor_seconds(pid), time.perf_counter()
                        for _ in range(requests):
                            send()
                        seconds = time.perf_counter() - begin
                        spent = (processor_seconds(pid) - first) / requests
                    print(
                        f"{role + ', ' + door:32} {requests / seconds:10,.0f} "
                        f"{1e6 * spent:8,.0f} {spent / bare:8.2f}"
                    )
                print(
                    f"{role}: {megabytes(pid):.0f} MB resident, "
                    f"{start:.2f} s of processor time to start"
                )


if __name__ == "__main__":
    main()
