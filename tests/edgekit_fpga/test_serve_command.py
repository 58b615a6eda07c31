"""`edgekit fpga serve` as a user starts it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest

from edgekit.cli.app import run as command
from edgekit_fpga import compile_model, run
from tests.edgekit_fpga.graphs import small_net


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("serve") / "net.npu"
    for each in (path, Path(f"{path}.d") / path.name):
        each.parent.mkdir(exist_ok=True)
        compile_model(small_net(0)).save(each)
    return path


def test_it_serves_a_file_under_its_name(package: Path) -> None:
    from edgekit_fpga import read_package

    image = np.random.default_rng(0).normal(size=(1, 1, 8, 8)).astype(np.float32)
    arguments = ["fpga", "serve", str(package), "--http-port", "0", "--grpc-port", "0", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgekit", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        opened = json.loads(process.stdout.readline())
        told = (opened["packages"], opened["grpc"], opened["backend"])
        assert told == ([str(package)], None, "interpreter")
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1, 8, 8]}
        body = {"inputs": [{**tensor, "data": image.ravel().tolist()}]}
        url = f"{opened['http']}/v2/models/net/infer"
        made = httpx.post(url, json=body).json()["outputs"][0]["data"]
        expected = run(read_package(package), {"x": image})["y"].ravel()
        assert np.array_equal(np.array(made, np.float32), expected)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.npu"], "cannot read no.npu"),
        (["{}", "--tls-cert", "x"], "EDGEKIT_TLS_CERT and EDGEKIT_TLS_KEY go together"),
        (["{}", "--broker", "here"], "EDGEKIT_BROKER is 'here'"),
        (["{}", "{}.d/net.npu"], "and so is another package"),
        (["{}", "--bind", "192.0.2.1"], "cannot listen on 192.0.2.1:8080"),
    ],
)
def test_a_mistake_is_one_line(
    package: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert command(["fpga", "serve", *(part.format(package) for part in arguments)]) == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert message in told[0]
