"""Versions of several files: weights beside the graph, a scoring script, its requirements."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.errors import Conflict, ModelError, RegistryError
from edgekit.registry import Registry, TensorSpec
from edgekit.workspace import Workspace

SCORE = "def init():\n    pass\n\n\ndef run(data):\n    return data\n"


def save_apart(folder: Path, location: str = "w.bin", value: float = 1) -> Path:
    """A model whose weights are in another file: y = x @ w, on float32 [1, 1000] and [1000, 3]."""
    weights = onnx.numpy_helper.from_array(np.full((1000, 3), value, np.float32), "w")
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1000])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
            [weights],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    (folder / location).parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(
        model, folder / "m.onnx", save_as_external_data=True, location=location, size_threshold=10
    )
    return folder / "m.onnx"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def score(source: Path) -> Path:
    path = source / "my_score.py"
    path.write_text(SCORE)
    return path


def stored(workspace: Workspace) -> int:
    return sum(path.is_file() for path in (workspace.folder / "blobs").rglob("*"))


def test_weights_beside_the_graph_are_collected(registry: Registry, source: Path) -> None:
    version = registry.register(save_apart(source, "parts/w.bin"), "apart")

    assert version.filename == "m.onnx"
    assert version.inputs == (TensorSpec("x", "float32", (1, 1000)),)
    assert [(file.path, file.role, file.size) for file in version.files] == [
        ("parts/w.bin", "weights", 12_000)
    ]
    assert version.total_size == version.size + 12_000
    assert registry.get(version.ref) == version


def test_the_local_file_has_its_weights_beside_it(registry: Registry, source: Path) -> None:
    import onnxruntime

    ref = registry.register(save_apart(source), "apart").ref

    path = registry.model_file(ref)

    assert registry.model_file(ref) == path
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(str(path))
    (sums,) = session.run(None, {"x": np.ones((1, 1000), np.float32)})
    assert sums.tolist() == [[1000.0] * 3]


def test_a_damaged_copy_beside_it_is_made_again(registry: Registry, source: Path) -> None:
    ref = registry.register(save_apart(source), "apart").ref
    weights = registry.model_file(ref).with_name("w.bin")
    before = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(b"damaged")

    assert registry.model_file(ref).with_name("w.bin").read_bytes() == before


def test_as_one_message_the_weights_are_inside(registry: Registry, source: Path) -> None:
    ref = registry.register(save_apart(source), "apart").ref

    model = onnx.load_model_from_string(registry.model_bytes(ref))

    assert onnx.numpy_helper.to_array(model.graph.initializer[0]).sum() == 3000


def test_two_versions_with_one_graph_and_other_weights_stay_apart(
    registry: Registry, source: Path
) -> None:
    graph = save_apart(source, value=1)
    first = registry.register(graph, "apart").ref
    weights = (source / "w.bin").read_bytes()
    (source / "w.bin").write_bytes(weights[::-1])
    second = registry.register(graph, "apart").ref

    assert registry.get(first).digest == registry.get(second).digest
    assert registry.model_bytes(first) != registry.model_bytes(second)


def test_missing_weights_are_named(registry: Registry, workspace: Workspace, source: Path) -> None:
    path = save_apart(source)
    (source / "w.bin").unlink()

    with pytest.raises(ModelError, match=r"keeps weights in w\.bin, which is not beside it"):
        registry.register(path, "apart")
    assert (registry.models(), stored(workspace)) == ([], 0)


def test_weights_cut_short_are_refused(
    registry: Registry, workspace: Workspace, source: Path
) -> None:
    path = save_apart(source)
    with (source / "w.bin").open("r+b") as file:
        file.truncate(100)

    with pytest.raises(ModelError, match=r"has 100 bytes, and m\.onnx wants 12,000 of it"):
        registry.register(path, "apart")
    assert (registry.models(), stored(workspace)) == ([], 0)


def test_a_link_that_leads_the_weights_outside_is_refused(
    registry: Registry, workspace: Workspace, source: Path, tmp_path: Path
) -> None:
    path = save_apart(source)
    (source / "w.bin").rename(tmp_path / "secret")
    (source / "w.bin").symlink_to(tmp_path / "secret")

    with pytest.raises(ModelError, match="from outside its folder"):
        registry.register(path, "apart")
    assert (registry.models(), stored(workspace)) == ([], 0)


def test_a_script_and_its_requirements_belong_to_the_version(
    registry: Registry, source: Path, score: Path
) -> None:
    (source / "model.pkl").write_bytes(b"pickle")
    (source / "needs.txt").write_text("scikit-learn==1.5\n")

    version = registry.register(
        source / "model.pkl",
        "trees",
        framework="sklearn",
        score=score,
        requirements=source / "needs.txt",
    )

    assert version.filename == "model.pkl"
    assert [(file.path, file.role) for file in version.files] == [
        ("requirements.txt", "requirements"),
        ("score.py", "score"),
    ]
    (script,) = version.files_for("score")
    assert registry.stored_file(script.digest).read_text() == SCORE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def init(:\n", r"no Python program: .* \(line 1\)"),
        ("\0", "no Python program"),
        ("def run(data):\n    return data\n", r"has no init\(\)"),
        ("def init():\n    pass\n", r"has no run\(\)"),
        ("def init():\n    pass\n\ndef run():\n    pass\n", r"cannot be called with 1 arguments"),
    ],
)
def test_what_is_no_scoring_script_is_refused_in_one_line(
    registry: Registry, workspace: Workspace, digits: Path, score: Path, text: str, message: str
) -> None:
    score.write_text(text)

    with pytest.raises(ModelError, match=message) as caught:
        registry.register(digits, "digits", score=score)

    assert "\n" not in str(caught.value)
    assert (registry.models(), stored(workspace)) == ([], 0)


@pytest.mark.parametrize(
    "text",
    [
        "from elsewhere import init, run\n",
        "from elsewhere import *\n",
        "init = run = print\n",
        "def init(a=1):\n    pass\n\ndef run(*data):\n    pass\n",
        "try:\n    from a import init, run\nexcept ImportError:\n    from b import init, run\n",
    ],
)
def test_init_and_run_may_come_from_anywhere(
    registry: Registry, digits: Path, score: Path, text: str
) -> None:
    score.write_text(text)

    assert registry.register(digits, "digits", score=score).files_for("score")


def test_requirements_without_a_script_are_refused(registry: Registry, digits: Path) -> None:
    with pytest.raises(ModelError, match="there is no scoring script"):
        registry.register(digits, "digits", requirements=digits)


def test_two_files_of_one_name_are_refused(registry: Registry, source: Path, score: Path) -> None:
    path = save_apart(source, "score.py")
    score.write_text(SCORE)

    with pytest.raises(RegistryError, match=r"two files called score\.py"):
        registry.register(path, "apart", score=score)
    assert registry.models() == []


def test_downloading_writes_all_files_the_models_last(
    registry: Registry, source: Path, score: Path, tmp_path: Path
) -> None:
    ref = registry.register(save_apart(source), "apart", score=score).ref
    folder = tmp_path / "out"
    folder.mkdir()

    written = registry.copy_model(ref, folder / "apart.onnx")

    assert written == (folder / "score.py", folder / "w.bin", folder / "apart.onnx")
    onnx.checker.check_model(str(folder / "apart.onnx"))
    assert registry.copy_model(ref, folder / "apart.onnx") == written


def test_downloading_does_not_replace_what_is_not_the_models(
    registry: Registry, source: Path, tmp_path: Path
) -> None:
    ref = registry.register(save_apart(source), "apart").ref
    (tmp_path / "w.bin").write_bytes(b"mine")

    with pytest.raises(Conflict, match=r"w\.bin is in the way"):
        registry.copy_model(ref, tmp_path / "apart.onnx")

    assert (tmp_path / "w.bin").read_bytes() == b"mine"
    assert not (tmp_path / "apart.onnx").exists()
    with pytest.raises(Conflict, match=r"a file called w\.bin besides"):
        registry.copy_model(ref, tmp_path / "w.bin")


def test_garbage_collection_keeps_all_files_of_what_is_there(
    registry: Registry, workspace: Workspace, source: Path, score: Path
) -> None:
    ref = registry.register(save_apart(source), "apart", score=score).ref

    assert registry.collect_garbage(grace=timedelta(0)).blobs == {}
    registry.delete(ref)
    assert len(registry.collect_garbage(grace=timedelta(0)).blobs) == 3
    assert stored(workspace) == 0


@pytest.fixture
def elsewhere(tmp_path: Path) -> Registry:
    return Registry.open(Workspace.create(tmp_path / "elsewhere"))


def test_an_archive_has_all_files(
    registry: Registry, elsewhere: Registry, source: Path, score: Path, tmp_path: Path
) -> None:
    version = registry.register(save_apart(source), "apart", score=score)
    registry.export_archive(tmp_path / "archive.tar")

    elsewhere.import_archive(tmp_path / "archive.tar")

    assert elsewhere.models() == [version]
    assert elsewhere.model_bytes(version.ref) == registry.model_bytes(version.ref)
