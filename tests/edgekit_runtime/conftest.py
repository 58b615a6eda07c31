"""A small model, programs of the runtime started as processes, and a broker."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).parents[2]


Until = Callable[..., None]


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait until `condition` is true; fail if it does not become so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def free_host() -> str:
    """A loopback address that nobody else is likely to use."""
    return f"127.{random.randint(64, 250)}.{random.randint(0, 255)}.{random.randint(2, 250)}"


@pytest.fixture
def until() -> Until:
    """Waits until a condition is true."""
    return wait_until


@pytest.fixture
def loopback() -> str:
    """A loopback address of the test's own."""
    return free_host()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`y = x @ W` for x of shape (N, 4), and its arg max; W is fixed."""
    folder = tmp_path_factory.mktemp("model")
    weights = np.arange(12, dtype=np.float32).reshape(4, 3) - 5
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "W"], ["y"]),
            helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3]),
            helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
        ],
        [numpy_helper.from_array(weights, "W")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    (folder / "model.json").write_text(json.dumps({"name": "small", "version": 3}))
    return folder


@pytest.fixture
def program() -> Callable[..., AbstractContextManager[subprocess.Popen[bytes]]]:
    """Starts `python -m ...` and kills it at the end."""
    return run_program


@contextmanager
def run_program(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m ...` with nothing of the caller's environment; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env={
            "PYTHONPATH": f"{ROOT}/modules:{ROOT}/fpga",
            "PATH": os.environ["PATH"],
            **environment,
        },
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """A mosquitto of our own, with persistent sessions; its `host:port`."""
    host = free_host()
    config = tmp_path / "mosquitto.conf"
    config.write_text(
        f"listener 1883 {host}\nallow_anonymous true\nmax_queued_messages 0\n"
        f"persistence true\npersistence_location {tmp_path}/\nuser root\n"
    )
    command = shutil.which("mosquitto")
    assert command is not None
    process = subprocess.Popen([command, "-c", config], stderr=subprocess.DEVNULL)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((host, 1883)) == 0

    try:
        wait_until(answers)
        yield f"{host}:1883"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
