"""The workload API, asked by the Azure SDK's own client of it."""

import asyncio
import base64
import hashlib
import hmac
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from azure.iot.device.iothub.edge_hsm import IoTEdgeError, IoTEdgeHsm

from edgekit_sim.iotedge.identities import ModuleIdentity
from edgekit_sim.iotedge.workload import SOCKET, Workload

KEY = base64.b64encode(b"k" * 32).decode()
IDENTITIES = {name: ModuleIdentity(name, "7", KEY) for name in ("scorer", "other")}


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="w") as name:
        yield Path(name)


def ask(folder: Path, question: Callable[[], Any]) -> Any:
    """Serve the module `scorer` while `question` runs in a thread."""

    async def serve() -> Any:
        workload = Workload(folder, IDENTITIES.get, "-----PEM-----")
        await workload.open("scorer")
        try:
            return await asyncio.to_thread(question)
        finally:
            await workload.close_all()

    return asyncio.run(serve())


def hsm(folder: Path, module: str = "scorer", generation: str = "7") -> IoTEdgeHsm:
    return IoTEdgeHsm(module, generation, f"unix://{folder}/scorer/{SOCKET}", "2019-01-30")


def test_signs_and_hands_out_the_trust_bundle(folder: Path) -> None:
    certificate, signature = ask(
        folder, lambda: (hsm(folder).get_certificate(), hsm(folder).sign("data"))
    )
    assert certificate == "-----PEM-----"
    digest = hmac.digest(b"k" * 32, b"data", hashlib.sha256)
    assert signature == base64.b64encode(digest).decode()


@pytest.mark.parametrize(("module", "generation"), [("other", "7"), ("scorer", "8")])
def test_a_module_signs_only_as_itself(folder: Path, module: str, generation: str) -> None:
    with pytest.raises(IoTEdgeError):
        ask(folder, lambda: hsm(folder, module, generation).sign("data"))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (json.dumps({"algo": "MD5", "data": ""}).encode(), 400),
        (json.dumps({"algo": "HMACSHA256", "data": "%%"}).encode(), 400),
        (b" " * (2 << 20), 413),
    ],
)
def test_refuses_what_is_no_sign_request(folder: Path, body: bytes, status: int) -> None:
    def question() -> int:
        transport = httpx.HTTPTransport(uds=f"{folder}/scorer/{SOCKET}")
        with httpx.Client(transport=transport) as client:
            return client.post("http://w/modules/scorer/genid/7/sign", content=body).status_code

    assert ask(folder, question) == status


def test_says_what_it_does_not_do(folder: Path) -> None:
    def question() -> int:
        transport = httpx.HTTPTransport(uds=f"{folder}/scorer/{SOCKET}")
        with httpx.Client(transport=transport) as client:
            url = "http://w/modules/scorer/genid/7/certificate/server"
            return client.post(url, json={}).status_code

    assert ask(folder, question) == 501
