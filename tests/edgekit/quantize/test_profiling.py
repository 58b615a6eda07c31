from pathlib import Path

import numpy as np
import pytest
from onnx.helper import make_node

from edgekit.errors import ModelError
from edgekit.quantize import profile
from edgekit.quantize.profiling import random_inputs

from .conftest import DIGITS, Build


def test_a_profile_has_latency_memory_and_the_machine() -> None:
    measured = profile(DIGITS / "digits.onnx")

    assert 0 < measured.p50 <= measured.p99
    assert measured.memory > 0
    assert measured.size == (DIGITS / "digits.onnx").stat().st_size
    assert measured.threads == 1
    assert "cores" in measured.machine


def test_real_inputs_can_be_given() -> None:
    measured = profile(DIGITS / "digits.onnx", inputs=DIGITS / "calibration.npz", threads=2)

    assert measured.threads == 2


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_what_does_not_load_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)

    with pytest.raises(ModelError, match="the model cannot be profiled") as caught:
        profile(tmp_path / "m.onnx")

    assert "\n" not in str(caught.value)


def test_inputs_that_do_not_fit_are_refused(tmp_path: Path, build: Build) -> None:
    (tmp_path / "m.onnx").write_bytes(build([make_node("Relu", ["x"], ["y"])], [3]))
    np.savez(tmp_path / "inputs.npz", x=np.zeros((1, 4), np.float32))

    with pytest.raises(ModelError, match="cannot be profiled") as caught:
        profile(tmp_path / "m.onnx", inputs=tmp_path / "inputs.npz")

    assert "--input" in caught.value.hint


def test_random_inputs_fit_what_is_declared() -> None:
    made = random_inputs(
        [
            ("a", "tensor(float)", ["N", 3, None]),
            ("b", "tensor(int64)", [2]),
            ("c", "tensor(string)", [1]),
            ("d", "tensor(bool)", []),
        ]
    )

    assert {name: (str(value.dtype), value.shape) for name, value in made.items()} == {
        "a": ("float32", (1, 3, 1)),
        "b": ("int64", (2,)),
        "c": ("object", (1,)),
        "d": ("bool", ()),
    }
