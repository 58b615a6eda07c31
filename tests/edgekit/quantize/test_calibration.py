from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.helper import make_node

from edgekit.errors import QuantizeError
from edgekit.quantize import load_split
from edgekit.quantize.calibration import observe

from .conftest import Arrays, Build


def test_the_range_of_each_tensor_is_what_it_took(build: Build) -> None:
    model = onnx.load_model_from_string(
        build([make_node("Neg", ["x"], ["n"]), make_node("Relu", ["n"], ["y"])], [2])
    )
    x = np.linspace(-3, 5, 200, dtype=np.float32).reshape(100, 2)

    assert observe(model, {"x": x}) == {"x": (-3, 5), "n": (-5, 3), "y": (0, 3)}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "arrays are named nothing, the model's inputs image"),
        ({"pixels": np.zeros(3)}, "arrays are named pixels, the model's inputs image"),
        ({"image": np.zeros((0, 1, 8, 8), np.float32)}, "at least 1"),
        ({"image": np.float32(3)}, "at least 1"),
        ({"image": np.zeros((2, 1, 8, 8))}, r"image is float64 \[2, 1, 8, 8\], the model takes"),
        ({"image": np.zeros((2, 8, 8), np.float32)}, r"takes float32 \[\?, 1, 8, 8\]"),
        ({"image": np.full((2, 1, 8, 8), np.nan, np.float32)}, "becomes NaN or infinite"),
    ],
)
def test_calibration_that_does_not_fit_is_explained(
    digits: bytes, arrays: Arrays, message: str
) -> None:
    with pytest.raises(QuantizeError, match=message):
        observe(onnx.load_model_from_string(digits), arrays)


def test_a_split_is_inputs_and_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", image=np.zeros(2), labels=np.array([1, 2]))

    inputs, labels = load_split(tmp_path / "s.npz")

    assert list(inputs) == ["image"]
    assert labels is not None
    assert labels.tolist() == [1, 2]


def test_a_file_with_python_objects_is_not_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", image=np.array([{"a": 1}], dtype=object))

    with pytest.raises(QuantizeError, match="plain arrays"):
        load_split(tmp_path / "s.npz")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_archive_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "s.npz").write_bytes(content)

    with pytest.raises(QuantizeError, match=r"s\.npz is no \.npz file"):
        load_split(tmp_path / "s.npz")


def test_labels_must_be_integers(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", labels=np.zeros(2))

    with pytest.raises(QuantizeError, match=r"labels in .* are float64"):
        load_split(tmp_path / "s.npz")
