from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

DIGITS = Path(__file__).parents[3] / "examples" / "digits"

Arrays = dict[str, npt.NDArray[Any]]
Build = Callable[..., bytes]


@pytest.fixture(scope="session")
def digits() -> bytes:
    return (DIGITS / "digits.onnx").read_bytes()


@pytest.fixture(scope="session")
def calibration() -> Arrays:
    with np.load(DIGITS / "calibration.npz") as archive:
        return {"image": archive["image"]}


@pytest.fixture(scope="session")
def held_back() -> Arrays:
    with np.load(DIGITS / "test.npz") as archive:
        return dict(archive)


@pytest.fixture
def build() -> Build:
    """Makes a graph from nodes: `x` float32 [N, *shape] to `y`."""

    def make(
        nodes: list[onnx.NodeProto], shape: list[int], constants: Arrays | None = None
    ) -> bytes:
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * (len(shape) + 1))],
            [onnx.numpy_helper.from_array(value, key) for key, value in (constants or {}).items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        return bytes(model.SerializeToString())

    return make
