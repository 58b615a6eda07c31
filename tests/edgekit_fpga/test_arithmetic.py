import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_fpga.arithmetic import (
    Multiplier,
    bit_length,
    float_requantize,
    requantize,
    round_fixed,
)

floats = st.floats(2**-39, 2**8, width=32)


@given(st.integers(0, 2**62 - 1))
def test_bit_length_is_that_of_python(value):
    assert bit_length(np.array([value]))[0] == value.bit_length()


@given(st.integers(-(2**48), 2**48), st.integers(27, 63))
def test_rounding_is_float32_then_integer_half_to_even(value, fraction):
    expected = np.rint(np.float32(np.ldexp(float(value), -fraction)))
    assert round_fixed(np.array([value]), fraction)[0] == expected


@given(st.integers(0, 300), st.integers(-3, 3), st.sampled_from([2**k for k in range(14)]))
def test_ties_and_their_neighbours(whole, step, by):
    fraction = 40
    value = (whole << fraction) + (1 << (fraction - 1)) + step * by
    expected = np.rint(np.float32(np.ldexp(float(value), -fraction)))
    assert round_fixed(np.array([value]), fraction)[0] == expected


def test_no_fraction_bits_leave_the_value():
    assert round_fixed(np.array([7, -7]), 0).tolist() == [7, -7]


@given(floats)
def test_a_multiplier_is_its_float(value):
    assert float(Multiplier.of(value)) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 2.0**40])
def test_what_is_no_multiplier_is_refused(value):
    with pytest.raises(ValueError, match="multiplier"):
        Multiplier.of(value)


@given(
    st.lists(st.integers(-(2**24) + 1, 2**24 - 1), min_size=1, max_size=50),
    floats,
    st.integers(-128, 127),
)
def test_the_integer_requantizer_is_the_float_one(totals, multiplier, zero_point):
    total = np.array(totals)
    constants = Multiplier.of(multiplier)
    integers = requantize(
        total, np.int64(constants.mantissa), np.int64(constants.shift), zero_point, -128, 127
    )
    through_float = float_requantize(total, np.float32(multiplier), zero_point, -128, 127)
    assert integers.tolist() == through_float.tolist()
