import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgekit_fpga import arithmetic, rtl
from edgekit_fpga.simulate.verilator import build

# the time is for building simulators on a machine that has other things to do
pytestmark = [pytest.mark.needs("verilator"), pytest.mark.timeout(600)]
FILES = {
    "requantizer": ("requantizer.sv", "rounder.sv", "clamp.sv"),
    "compact_requantizer": ("compact_requantizer.sv", "compact_product.sv", "clamp.sv"),
}


@pytest.fixture(scope="module", params=FILES)
def simulator(request):
    bench = Path(__file__).parent / f"{request.param}_bench.cpp"
    sources = {name: rtl.sources()[name] for name in FILES[request.param]}
    return build(request.param, sources, bench.read_text())


def simulate(simulator, total, mantissa, shift, zero_point, low, high):
    """One result a case; the bias takes a part of the total so that the adder works too."""
    count = len(total)
    bias = np.random.default_rng(5).integers(-(2**20), 2**20, count)
    cases = np.zeros((count, 8), np.int64)
    for column, values in enumerate((total - bias, bias, mantissa, shift, zero_point, low, high)):
        cases[:, column] = values
    wrapped = cases.astype(np.uint64).astype(np.uint32).astype("<u4")
    done = subprocess.run(
        [simulator], input=wrapped.tobytes(), capture_output=True, check=True, timeout=60
    )
    return np.frombuffer(done.stdout, np.int8)


def boundary_totals(mantissa, shift):
    """Totals beside the places where the product crosses a half, per case."""
    generator = np.random.default_rng(7)
    target = (generator.integers(-300, 300, mantissa.shape) + 0.5) * 2.0**shift
    total = np.rint(target / np.maximum(mantissa, 1)) + generator.integers(-1, 2, mantissa.shape)
    return np.clip(total, -(2**24) + 1, 2**24 - 1).astype(np.int64)


def random_multipliers(generator, count):
    mantissa = generator.integers(2**23, 2**24, count)
    shift = generator.integers(0, 64, count)
    mantissa[::50] = 0
    mantissa[1::50] = 2**23  # powers of two make true ties
    return mantissa, shift


@pytest.mark.parametrize("limits", [(0, -128, 127), (-128, -128, 127), (127, -5, 127), (-3, 4, 9)])
def test_random_and_boundary_accumulators_agree_with_the_arithmetic(simulator, limits):
    generator = np.random.default_rng(11)
    mantissa, shift = random_multipliers(generator, 60_000)
    likely = np.where(generator.random(60_000) < 0.7, generator.integers(24, 44, 60_000), shift)
    total = boundary_totals(mantissa, likely)
    total[::3] = generator.integers(-(2**24) + 1, 2**24, len(total[::3]))
    expected = arithmetic.requantize(total, mantissa, likely, *limits)
    actual = simulate(simulator, total, mantissa, likely, *limits)
    assert np.array_equal(actual, expected)


def test_every_accumulator_around_the_window_agrees_for_one_channel(simulator):
    total = np.arange(-40_000, 40_000)
    mantissa, shift = np.full(80_000, 0xD5_5555), np.full(80_000, 33)
    expected = arithmetic.requantize(total, mantissa, shift, 3, -128, 127)
    assert np.array_equal(simulate(simulator, total, mantissa, shift, 3, -128, 127), expected)


def test_exact_ties_go_to_the_even_neighbour(simulator):
    total = np.arange(-9, 10)
    mantissa, shift = np.full(19, 2**23), np.full(19, 24)
    expected = np.rint(total / 2).astype(np.int8)
    assert np.array_equal(simulate(simulator, total, mantissa, shift, 0, -128, 127), expected)


def test_magnitudes_beyond_24_bits_saturate(simulator):
    total = np.array([2**24, -(2**24), 2**31 - 1, -(2**31) + 2**21])
    mantissa, shift = np.full(4, 2**23), np.full(4, 40)
    actual = simulate(simulator, total, mantissa, shift, 0, -128, 127)
    assert actual.tolist() == [127, -128, 127, -128]
