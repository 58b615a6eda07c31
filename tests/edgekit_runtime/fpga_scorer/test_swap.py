"""Packages that change while they are served: every answer is wholly of one version."""

import signal
import threading
from typing import Any

import httpx
import tritonclient.grpc

from tests.edgekit_runtime.fpga_scorer.conftest import Served, Start, Versions


def request(versions: Versions) -> dict[str, Any]:
    tensor = {
        "name": "x",
        "datatype": "FP32",
        "shape": list(versions.image.shape),
        "data": versions.image.ravel().tolist(),
    }
    return {"inputs": [tensor]}


def test_no_answer_is_dropped_or_mixed(served: Served, versions: Versions, until: Any) -> None:
    seen: list[tuple[str, bool]] = []
    ended = threading.Event()
    faults: list[str] = []

    def note(version: str, values: list[float]) -> None:
        seen.append((version, versions.gives(version, values)))

    def ask_rest() -> None:
        with httpx.Client(base_url=f"http://{served.host}:8080", timeout=60) as client:
            while not ended.is_set():
                reply = client.post("/v2/models/net/infer", json=request(versions))
                if reply.status_code != 200:
                    faults.append(reply.text)
                    return
                answer = reply.json()
                note(answer["model_version"], answer["outputs"][0]["data"])

    def ask_grpc() -> None:
        with tritonclient.grpc.InferenceServerClient(served.grpc) as client:
            tensor = tritonclient.grpc.InferInput("x", [2, 1, 8, 8], "FP32")
            tensor.set_data_from_numpy(versions.image)
            while not ended.is_set():
                answer = client.infer("net", [tensor])
                version = answer.get_response().model_version
                note(version, answer.as_numpy("y").ravel().tolist())

    threads = [threading.Thread(target=ask) for ask in (ask_rest, ask_grpc, ask_rest, ask_grpc)]
    for thread in threads:
        thread.start()
    try:
        for swap in range(6):
            version = "21"[swap % 2]
            versions.install(served.folder, version)
            served.process.send_signal(signal.SIGHUP)
            until(lambda version=version: seen and seen[-1][0] == version)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert faults == []
    assert {version for version, _ in seen} == {"1", "2"}
    assert all(whole for _, whole in seen)


def served_version(served: Served) -> str:
    return str(served.http.get("/v2/models/net").json()["versions"][0])


def test_a_damaged_package_changes_nothing(served: Served, versions: Versions, until: Any) -> None:
    whole = versions.packages["2"].to_bytes()
    (served.folder / "model.npu").write_bytes(whole[:-1])

    def loads(outcome: str) -> bool:
        return f'outcome="{outcome}"}} 1.0' in served.http.get("/metrics").text

    until(lambda: loads("failed"))
    assert served_version(served) == "1"
    answer = served.http.post("/v2/models/net/infer", json=request(versions)).json()
    assert versions.gives("1", answer["outputs"][0]["data"])
    versions.install(served.folder, "2")
    until(lambda: served_version(served) == "2")


def test_models_come_and_go(start: Start, versions: Versions, tmp_path: Any, until: Any) -> None:
    models = tmp_path / "models"
    models.mkdir()
    versions.install(models / "a", "1", name="a")
    versions.packages["2"].save(models / "b.npu")
    with start(EDGEKIT_MODEL=str(models)) as served:
        b = served.http.get("/v2/models/b").json()
        assert b["versions"] == [versions.packages["2"].digest.removeprefix("sha256:")[:12]]
        for name, version in (("a", "1"), ("b", "2")):
            answer = served.http.post(f"/v2/models/{name}/infer", json=request(versions)).json()
            assert versions.gives(version, answer["outputs"][0]["data"])
        versions.install(models / "c", "2", name="c")
        (models / "b.npu").unlink()
        until(lambda: served.http.get("/v2/models/c").status_code == 200)
        until(lambda: served.http.get("/v2/models/b").status_code == 404)
