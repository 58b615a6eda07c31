import numpy as np
import pytest
from onnx.helper import make_node

from edgekit.errors import QuantizeError
from edgekit.quantize import accuracy, compare

from .conftest import Build


def identity(build: Build) -> bytes:
    """A graph whose scores are its inputs."""
    return build([make_node("Identity", ["x"], ["y"])], [3])


def test_accuracy_is_the_share_of_right_answers(build: Build) -> None:
    scores = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]

    assert accuracy(identity(build), {"x": scores}, np.array([0, 1, 2, 0])) == 0.75


def test_labels_of_another_shape_are_refused(build: Build) -> None:
    with pytest.raises(QuantizeError, match="3 answers"):
        accuracy(identity(build), {"x": np.eye(3, dtype=np.float32)}, np.array([0, 1]))


def test_a_report_sets_two_models_side_by_side(build: Build) -> None:
    negated = build([make_node("Neg", ["x"], ["y"])], [3])
    scores = np.array([[3, 2, 1], [0, 0, 1]], np.float32)

    report = compare(identity(build), negated, {"x": scores}, np.array([0, 0]))

    assert (report.float_accuracy, report.int8_accuracy) == (0.5, 0.5)
    assert report.agreement == 0
    assert report.images == 2
    assert (report.float_size, report.int8_size) == (len(identity(build)), len(negated))
    assert 0 < report.float_latency.p50 <= report.float_latency.p99
    assert report.as_dict()["faster_here"] is report.faster_here


def test_without_labels_only_the_agreement_is_known(build: Build) -> None:
    same = identity(build)

    report = compare(same, same, {"x": np.eye(3, dtype=np.float32)})

    assert (report.float_accuracy, report.int8_accuracy, report.agreement) == (None, None, 1)
