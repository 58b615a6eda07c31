"""`edgekit image delta` and `apply-delta`, as a user types them."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgekit.cli.app import run
from edgekit.registry import Registry

from .test_command import DIGITS, address, answer, call, workspace  # noqa: F401 - fixtures


@pytest.fixture
def versions(workspace, address, tmp_path):  # noqa: F811
    """Two pushed versions of the digits model, the second trained a little further."""
    model = onnx.load(DIGITS)
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(value * np.float32(1.01), tensor.name))
            break
    onnx.save(model, tmp_path / "next.onnx")
    Registry.open(workspace).register(tmp_path / "next.onnx", "digits")
    names = [f"{address}/edge/digits:{version}" for version in (1, 2)]
    for version, name in enumerate(names, 1):
        answer("build", f"digits:{version}", "--push", name)
    return names


def test_a_site_with_the_old_image_fetches_the_difference(versions):
    old, new = versions
    (made,) = answer("delta", "digits:1", new)["deltas"]
    assert made["platforms"] == ["linux/amd64", "linux/arm64"]
    assert made["size"] < made["layer_size"] / 2

    first = answer("apply-delta", old, "oci:site", "--platform", "linux/arm64")
    assert first["bytes_fetched"] > sum(layer["size"] for layer in first["layers"])
    second = answer("apply-delta", new, "oci:site", "--platform", "linux/arm64")
    *below, model = second["layers"]
    assert [layer["fetched"] for layer in below] == [0] * len(below)
    assert (model["fetched"], model["size"]) == (made["size"], made["layer_size"])
    shown = answer("show", "oci:site:digits:2")
    assert shown["digest"] == second["digest"]


def test_the_old_image_may_be_in_the_registry_alone(versions):
    old, new = versions
    assert "instead of" in call("delta", old, new).stderr


def test_the_same_model_needs_no_delta(versions, capsys):
    old, _new = versions
    assert run(["image", "delta", old, old]) == 1
    assert "both images have the same model" in capsys.readouterr().err


def test_apply_delta_wants_a_layout_folder(versions):
    assert run(["image", "apply-delta", versions[0], "site"]) == 2
