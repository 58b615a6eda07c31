"""Images of models that a scoring script loads: what is in them, what they lack."""

import json
from dataclasses import replace

import pytest

from edgekit.errors import Corrupt, ImageError
from edgekit.oci.descriptor import Platform
from edgekit.oci.image import manifests_of
from edgekit.oci.layer import file_digest
from edgekit.packager.image import build_image
from edgekit.packager.plan import plan_image

from .conftest import config_of, layer_file, layer_files

AMD64 = Platform("linux", "amd64")


@pytest.fixture
def score(tmp_path):
    path = tmp_path / "my_score.py"
    path.write_text("import json, numpy.core\n\ndef init(): pass\n\ndef run(x): return x\n")
    return path


@pytest.fixture
def trees(model):
    """A model of a framework that only its script knows."""
    return replace(model(), kind="file", filename="trees.pkl")


@pytest.fixture
def apart(model, tmp_path):
    """An ONNX model whose weights are in another file."""
    weights = tmp_path / "weights"
    weights.write_bytes(b"many")
    return replace(model(), others=(("parts/w.bin", weights, file_digest(weights)),))


def model_files(built):
    (layer,) = [each for each in built.layers if each.name == "model"]
    return layer, set(layer_files(built.blobs, layer))


def test_a_script_answers_and_finds_the_model_by_its_name(store, trees, score):
    built = build_image(plan_image(trees, store, (AMD64,), score=score), store)

    (manifest,) = manifests_of(built.blobs, built.root).values()
    assert config_of(built.blobs, manifest)["config"]["Cmd"] == ["script-scorer"]
    layer, files = model_files(built)
    assert {"opt/edgekit/model/trees.pkl", "opt/edgekit/model/model.json"} <= files
    assert layer_file(built.blobs, layer, "opt/edgekit/model/trees.pkl") == b"weights"


def test_without_a_script_nothing_can_load_it(store, trees):
    with pytest.raises(ImageError, match="only a scoring script can load digits:1") as caught:
        plan_image(trees, store)

    assert "--score" in caught.value.hint


def test_weights_lie_beside_the_graph(store, apart):
    layer, files = model_files(build := build_image(plan_image(apart, store, (AMD64,)), store))

    assert {"opt/edgekit/model/model.onnx", "opt/edgekit/model/parts/w.bin"} <= files
    assert layer_file(build.blobs, layer, "opt/edgekit/model/parts/w.bin") == b"many"
    about = json.loads(layer_file(build.blobs, layer, "opt/edgekit/model/model.json"))
    assert about["digest"] == apart.digest


def test_other_weights_give_another_image(store, apart, tmp_path):
    first = plan_image(apart, store, (AMD64,))
    (tmp_path / "weights").write_bytes(b"more")
    digest = file_digest(tmp_path / "weights")
    other = replace(apart, others=(("parts/w.bin", tmp_path / "weights", digest),))

    assert plan_image(other, store, (AMD64,)).digest != first.digest
    with pytest.raises(Corrupt):
        build_image(first, store)
