"""Folding, equalization, bias correction, scales: what each of them promises."""

import itertools

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx.helper import make_node

from edgekit.errors import QuantizeError
from edgekit.quantize import Recipe, layer_errors, quantize
from edgekit.quantize.bias import correct_bias
from edgekit.quantize.calibration import observe
from edgekit.quantize.equalization import equalize
from edgekit.quantize.fold import fold_batch_norm
from edgekit.quantize.graph import Wiring, layers, parse
from edgekit.quantize.histogram import Histogram
from edgekit.quantize.runtime import run, session
from edgekit.quantize.scales import power_of_two_activation, weight_scales

from .conftest import Arrays, Build

CHANNELS = 8


def separable(build: Build, spread: float = 1.0, seed: int = 0) -> bytes:
    """Convolution, depthwise and pointwise convolution, pooling, dense; no bias in the first.

    Args:
        build: makes the graph.
        spread: how many times larger the first channel is than the last, made up for later.
        seed: of the weights.
    """
    rng = np.random.default_rng(seed)
    factors = np.geomspace(1, 1 / spread, CHANNELS).astype(np.float32)

    def weights(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    constants = {
        "w1": weights(CHANNELS, 3, 3, 3) * factors.reshape(-1, 1, 1, 1),
        "w2": weights(CHANNELS, 1, 3, 3),
        "b2": weights(CHANNELS) * factors,
        "w3": weights(6, CHANNELS, 1, 1) / factors.reshape(1, -1, 1, 1),
        "b3": weights(6),
        "w4": weights(6 * 4, 5),
        "b4": weights(5),
    }
    nodes = [
        make_node("Conv", ["x", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        make_node("Relu", ["c1"], ["r1"]),
        make_node("Conv", ["r1", "w2", "b2"], ["c2"], group=CHANNELS, pads=[1, 1, 1, 1]),
        make_node("Relu", ["c2"], ["r2"]),
        make_node("Conv", ["r2", "w3", "b3"], ["c3"]),
        make_node("Relu", ["c3"], ["r3"]),
        make_node("MaxPool", ["r3"], ["p"], kernel_shape=[4, 4], strides=[4, 4]),
        make_node("Flatten", ["p"], ["f"]),
        make_node("Gemm", ["f", "w4", "b4"], ["y"]),
    ]
    return build(nodes, [3, 8, 8], constants)


@pytest.fixture
def images() -> Arrays:
    return {"x": np.random.default_rng(1).normal(size=(64, 3, 8, 8)).astype(np.float32)}


def answer(model: bytes | onnx.ModelProto, inputs: Arrays) -> np.ndarray:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    return run(session(data), inputs)["y"]


@pytest.mark.parametrize("bias", [True, False])
def test_a_folded_batch_norm_computes_the_same(build: Build, bias: bool) -> None:
    rng = np.random.default_rng(2)
    constants = {
        name: rng.uniform(0.5, 2, size=shape).astype(np.float32)
        for name, shape in {"w": (4, 3, 3, 3), "b": 4, "s": 4, "o": 4, "m": 4, "v": 4}.items()
    }
    inputs = ["x", "w", "b"] if bias else ["x", "w"]
    model = build(
        [
            make_node("Conv", inputs, ["c"]),
            make_node("BatchNormalization", ["c", "s", "o", "m", "v"], ["y"], epsilon=0.01),
        ],
        [3, 5, 5],
        constants if bias else {name: value for name, value in constants.items() if name != "b"},
    )
    x = {"x": rng.normal(size=(4, 3, 5, 5)).astype(np.float32)}
    graph = parse(model)

    assert fold_batch_norm(graph) == 1

    assert [node.op_type for node in graph.graph.node] == ["Conv"]
    np.testing.assert_allclose(answer(graph, x), answer(model, x), rtol=1e-4, atol=1e-4)


def test_a_norm_whose_input_is_used_elsewhere_stays(build: Build) -> None:
    ones = np.ones(2, np.float32)
    graph = parse(
        build(
            [
                make_node("Conv", ["x", "w"], ["c"]),
                make_node("BatchNormalization", ["c", "s", "s", "s", "s"], ["n"]),
                make_node("Add", ["c", "n"], ["y"]),
            ],
            [1, 3, 3],
            {"w": np.ones((2, 1, 1, 1), np.float32), "s": ones},
        )
    )

    assert fold_batch_norm(graph) == 0


@pytest.mark.parametrize("spread", [1.0, 1000.0])
def test_an_equalized_graph_computes_the_same(build: Build, images: Arrays, spread: float) -> None:
    model = separable(build, spread)
    graph = parse(model)

    assert equalize(graph) == 3

    np.testing.assert_allclose(answer(graph, images), answer(model, images), rtol=1e-3, atol=1e-4)


def test_equalized_channels_have_one_range_on_both_sides(build: Build) -> None:
    graph = parse(separable(build, 1000.0))
    equalize(graph)

    first, second, third, fourth = layers(Wiring(graph))
    made = [
        np.abs(layer.weights.reshape(len(layer.weights), -1)).max(axis=1)
        for layer in (first, second, third)
    ]
    np.testing.assert_allclose(made[0], made[1], rtol=0.01)
    np.testing.assert_allclose(made[1], np.abs(third.weights).max(axis=(0, 2, 3)), rtol=0.01)
    by_channel = np.abs(fourth.weights.reshape(5, 6, 4)).max(axis=(0, 2))
    np.testing.assert_allclose(made[2], by_channel, rtol=0.01)


def test_layers_with_anything_else_between_are_left(build: Build) -> None:
    constants = {"w": np.ones((2, 2), np.float32), "v": np.ones((2, 2), np.float32)}
    for between in ("Sigmoid", "Tanh", "Softmax"):
        nodes = [
            make_node("Gemm", ["x", "w"], ["a"]),
            make_node(between, ["a"], ["b"]),
            make_node("Gemm", ["b", "v"], ["y"]),
        ]
        assert equalize(parse(build(nodes, [2], constants))) == 0


def test_equalization_brings_back_channels_that_int8_loses(build: Build, images: Arrays) -> None:
    model = separable(build, 1000.0)

    plain, equalized = (
        layer_errors(model, quantize(model, images, recipe), images, recipe)
        for recipe in (Recipe(), Recipe(equalize=True))
    )

    assert plain[-1].sqnr < 20
    assert equalized[-1].sqnr > plain[-1].sqnr + 10
    assert min(error.sqnr for error in equalized) > 20


@pytest.mark.parametrize("power_of_two", [False, True])
def test_a_corrected_bias_takes_away_the_mean_error(
    build: Build, images: Arrays, power_of_two: bool
) -> None:
    model = separable(build)
    exact = parse(model)
    corrected = parse(model)
    assert correct_bias(corrected, images, power_of_two=power_of_two) == 4
    rounded = [parse(model), corrected]
    for graph in rounded:
        for layer in layers(Wiring(graph)):
            scale = weight_scales(layer.weights, power_of_two=power_of_two)
            scale = scale.reshape(-1, *[1] * (layer.weights.ndim - 1))
            layer.set_weights(np.rint(layer.weights / scale) * scale)

    def first_layer_mean(graph: onnx.ModelProto) -> np.ndarray:
        watched = onnx.ModelProto()
        watched.CopyFrom(graph)
        watched.graph.output.append(onnx.ValueInfoProto(name="c1"))
        found = run(session(watched.SerializeToString()), images)["c1"]
        return found.mean(axis=(0, 2, 3))

    wanted = first_layer_mean(exact)
    before, after = (np.abs(first_layer_mean(graph) - wanted).max() for graph in rounded)
    assert after < before / 20


def test_powers_of_two_are_all_there_is(build: Build, images: Arrays) -> None:
    int8 = quantize(separable(build), images, Recipe(power_of_two=True))
    graph = onnx.load_model_from_string(int8).graph
    scales = [
        onnx.numpy_helper.to_array(value)
        for value in graph.initializer
        if value.name.endswith("_scale")
    ]

    assert len(scales) > 8
    for scale in scales:
        assert np.array_equal(np.exp2(np.rint(np.log2(scale))), scale)


@given(
    low=st.floats(-1e6, 1e6),
    span=st.floats(1e-3, 1e6),
)
def test_a_power_of_two_covers_the_range_and_is_the_least(low: float, span: float) -> None:
    high = low + span
    low, high = min(low, 0.0), max(high, 0.0)

    scale, zero = power_of_two_activation(low, high)

    assert -128 <= zero <= 127
    assert scale * (-128 - zero) <= low + scale / 2
    assert scale * (127 - zero) >= high - scale / 2
    assert scale / 4 * 255 < high - low


def test_percentiles_leave_the_rarest_out() -> None:
    histogram = Histogram(0.0, 100.0)
    histogram.add(np.concatenate([np.linspace(0, 10, 9999), [100]]).astype(np.float32))

    low, high = histogram.percentile(99.9)

    assert low == pytest.approx(0, abs=0.1)
    assert high == pytest.approx(10, abs=0.1)
    assert histogram.percentile(100) == (0, 100)


def test_entropy_cuts_off_a_lonely_outlier_and_keeps_an_even_spread() -> None:
    rng = np.random.default_rng(0)
    lonely, even = Histogram(-100, 100), Histogram(-1, 1)
    lonely.add(np.append(rng.normal(size=100_000), [100]))
    even.add(rng.uniform(-1, 1, 100_000))

    assert lonely.entropy()[1] < 15
    assert even.entropy() == (-1, 1)


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_narrowed_ranges_are_inside_what_was_seen(
    build: Build, images: Arrays, method: str
) -> None:
    graph = parse(separable(build))

    seen = observe(graph, images)
    narrowed = observe(graph, images, method=method, percentile=99)

    assert narrowed.keys() == seen.keys()
    for name, (low, high) in narrowed.items():
        assert seen[name][0] <= low < high <= seen[name][1]
    assert narrowed != seen


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(*choice)
        for choice in itertools.product(
            ["minmax", "percentile", "entropy"],
            [99.99],
            [False, True],
            [False, True],
            [False, True],
        )
    ],
    ids=lambda recipe: recipe.summary,
)
def test_every_recipe_keeps_the_signal(build: Build, images: Arrays, recipe: Recipe) -> None:
    model = separable(build)

    int8 = quantize(model, images, recipe)

    wanted, found = answer(model, images), answer(int8, images)
    assert np.corrcoef(wanted.ravel(), found.ravel())[0, 1] > 0.97


def test_layer_errors_follow_the_graph(digits: bytes, calibration: Arrays) -> None:
    errors = layer_errors(digits, quantize(digits, calibration), calibration)

    assert [error.operator for error in errors] == [
        "QuantizeLinear",
        *["QLinearConv"] * 3,
        "MaxPool",
        *["QLinearConv"] * 2,
        "QLinearAdd",
        "QLinearGlobalAveragePool",
        "Flatten",
        "QGemm",
    ]
    assert errors[0].largest <= 0.51  # rounding alone
    assert all(error.sqnr > 25 for error in errors)
    # min-max on the same images: nothing is beyond the range but by the layers' own errors
    assert all(error.saturated < 0.01 for error in errors)


def test_an_exact_tensor_has_an_infinite_ratio(build: Build) -> None:
    weights = {"w": np.ones((1, 1, 1), np.float32)}
    model = build([make_node("Conv", ["x", "w"], ["y"])], [1, 1], weights)
    x = {"x": np.array([[[0]], [[255]]], np.float32)}  # one step of int8 is then 1

    (first, *_) = layer_errors(model, quantize(model, x), x)

    assert first.sqnr == np.inf
    assert first.as_dict()["sqnr"] is None


@pytest.mark.parametrize("wrong", [{"method": "guess"}, {"percentile": 50}, {"percentile": 101}])
def test_a_recipe_checks_itself(wrong: dict[str, object]) -> None:
    with pytest.raises(QuantizeError):
        Recipe(**wrong)  # type: ignore[arg-type] (that is the test)
