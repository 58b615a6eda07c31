"""A scoring script as a program: Azure ML's contract over HTTP."""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx
import pytest

Program = Callable[..., AbstractContextManager["Popen[bytes]"]]

SCRIPT = """
import json, os
import beside

def init():
    global factor
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "factor.txt")) as file:
        factor = int(file.read())

def run(raw_data):
    import numpy as np
    wanted = json.loads(raw_data)["data"]
    if wanted == "text":
        return "as text"
    if wanted == "bytes":
        return b"\\x00\\x01"
    if wanted == "object":
        return object()
    return {"times": np.array(wanted) * factor, "type": type(raw_data).__name__}
"""


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """`app` with a script that multiplies by a factor, and `model` with that factor."""
    for name in ("app", "model"):
        (tmp_path / name).mkdir()
    (tmp_path / "app" / "score.py").write_text(SCRIPT)
    (tmp_path / "app" / "beside.py").write_text("")
    (tmp_path / "model" / "factor.txt").write_text("3")
    (tmp_path / "model" / "model.json").write_text(json.dumps({"name": "times", "version": 2}))
    return tmp_path


@contextmanager
def serving(
    program: Program, folders: Path, host: str, **environment: str
) -> Iterator[httpx.Client]:
    """A client of the script scorer, which is ready."""
    started = program(
        "edgekit_runtime",
        "script-scorer",
        EDGEKIT_APP=str(folders / "app"),
        EDGEKIT_MODEL=str(folders / "model"),
        EDGEKIT_BIND=host,
        **environment,
    )
    with started as process, httpx.Client(base_url=f"http://{host}:8080") as client:
        assert process.stderr is not None
        said = iter(process.stderr.readline, b"")
        assert any(b"HTTP on" in line for line in said)
        yield client


@pytest.fixture
def scorer(program: Program, folders: Path, loopback: str) -> Iterator[httpx.Client]:
    with serving(program, folders, loopback) as client:
        yield client


def score(client: httpx.Client, data: Any) -> httpx.Response:
    return client.post("/score", json={"data": data})


def test_run_gets_the_body_and_what_it_returns_is_the_answer(scorer: httpx.Client) -> None:
    answer = score(scorer, [1, 2])

    assert answer.json() == {"times": [3, 6], "type": "str"}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-ms-run-function-failed"] == "False"
    assert float(answer.headers["x-ms-run-fn-exec-ms"]) > 0


def test_text_is_json_and_bytes_are_bytes(scorer: httpx.Client) -> None:
    assert score(scorer, "text").content == b'"as text"'
    sent = score(scorer, "bytes")
    assert (sent.content, sent.headers["content-type"]) == (
        b"\x00\x01",
        "application/octet-stream",
    )


def test_what_run_raises_is_told_in_one_line_and_the_next_request_is_answered(
    scorer: httpx.Client,
) -> None:
    failed = scorer.post("/score", content=b"no JSON")

    assert failed.status_code == 500
    assert failed.headers["x-ms-run-function-failed"] == "True"
    assert failed.json()["error"].startswith("run() failed: JSONDecodeError: Expecting value")
    assert "is no JSON: TypeError" in score(scorer, "object").json()["error"]
    assert score(scorer, [1]).status_code == 200


def test_a_body_that_is_no_text_is_refused(scorer: httpx.Client) -> None:
    answer = scorer.post("/score", content=b"\xff")

    assert (answer.status_code, answer.json()["error"]) == (400, "the body is no UTF-8 text")


def test_every_answer_has_the_requests_id_or_a_new_one(scorer: httpx.Client) -> None:
    ids = {"x-ms-request-id": "mine", "x-ms-client-request-id": "client's"}
    answer = scorer.get("/", headers=ids)
    assert {name: answer.headers[name] for name in ids} == ids

    answer = scorer.get("/nothing", headers={"x-ms-request-id": "two words"})
    assert uuid.UUID(answer.headers["x-ms-request-id"])
    assert "x-ms-client-request-id" not in answer.headers


def test_it_says_that_it_lives_and_what_it_takes(scorer: httpx.Client) -> None:
    assert scorer.get("/").text == "Healthy"
    document = scorer.get("/swagger.json").json()
    assert (document["swagger"], document["info"]["title"]) == ("2.0", "times")
    references = re.findall(r"#/definitions/(\w+)", json.dumps(document))
    assert set(references) <= set(document["definitions"])
    assert set(document["paths"]) == {"/", "/score"}
    assert scorer.get("/score").status_code == 405


def test_health_and_metrics_are_a_scorers(scorer: httpx.Client) -> None:
    score(scorer, [1])

    assert scorer.get("/v2/health/ready").json() == {"ready": True}
    assert scorer.get("/v2/models/times").json()["platform"] == "edgekit_script"
    counted = 'edgekit_requests_total{door="score",model="times",outcome="ok",version="2"} 1.0'
    assert counted in scorer.get("/metrics").text


def test_tensors_are_refused_with_the_way_to_ask(scorer: httpx.Client) -> None:
    answer = scorer.post("/v2/models/times/infer", json={"inputs": []})

    assert answer.status_code == 400


def test_a_token_guards_the_score(program: Program, folders: Path, loopback: str) -> None:
    with serving(program, folders, loopback, EDGEKIT_TOKEN="secret") as client:
        assert score(client, [1]).status_code == 401
        assert client.get("/swagger.json").status_code == 401
        assert client.get("/").status_code == 200
        client.headers["authorization"] = "Bearer secret"
        assert score(client, [1]).status_code == 200


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import nosuchpackage\n", "does not import: ModuleNotFoundError: No module named"),
        ("1 / 0\n", "does not import: ZeroDivisionError: division by zero"),
        ("def run(x): return x\n", "has no init()"),
        ("def init(): raise OSError('no\\nmodel')\ndef run(x): return x\n", "fails: OSError: no;"),
        (None, "is not there"),
    ],
)
def test_a_script_that_does_not_load_ends_the_program_in_one_line(
    program: Program, folders: Path, script: str | None, said: str
) -> None:
    path = folders / "app" / "score.py"
    if script is None:
        path.unlink()
    else:
        path.write_text(script)
    started = program(
        "edgekit_runtime",
        "script-scorer",
        EDGEKIT_APP=str(folders / "app"),
        EDGEKIT_MODEL=str(folders / "model"),
    )
    with started as process:
        _, errors = process.communicate(timeout=60)

    assert process.returncode == 1
    assert said in errors.decode().splitlines()[-1]
