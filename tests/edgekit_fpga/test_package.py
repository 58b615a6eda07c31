import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit_fpga import compile_model, read_package, run
from edgekit_fpga.errors import InputError, PackageError
from edgekit_fpga.package import package_from_bytes
from tests.edgekit_fpga.graphs import small_net

PACKAGE = compile_model(small_net(0))
DATA = PACKAGE.to_bytes()


def test_a_package_reads_back(tmp_path):
    PACKAGE.save(tmp_path / "a.npu")
    again = read_package(tmp_path / "a.npu")
    assert again.digest == PACKAGE.digest
    assert again.program.instructions == PACKAGE.program.instructions
    assert [path.name for path in tmp_path.iterdir()] == ["a.npu"]


@settings(max_examples=60)
@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_one_altered_byte_anywhere_is_noticed(place, change):
    altered = bytearray(DATA)
    altered[place] ^= change
    with pytest.raises(PackageError):
        package_from_bytes(bytes(altered))


@settings(max_examples=40)
@given(st.integers(0, len(DATA) - 1))
def test_a_truncated_package_is_noticed(length):
    with pytest.raises(PackageError):
        package_from_bytes(DATA[:length])


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_one_line(data):
    with pytest.raises(PackageError) as error:
        package_from_bytes(data)
    assert "\n" not in str(error.value)


def test_an_oversized_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "huge.npu"
    with path.open("wb") as file:
        os.truncate(file.fileno(), 1 << 40)
    with pytest.raises(PackageError, match="larger than 256 MB"):
        read_package(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(PackageError, match=r"cannot read .*missing\.npu: No such file"):
        read_package(tmp_path / "missing.npu")


def test_saving_into_no_folder_leaves_nothing(tmp_path):
    with pytest.raises(PackageError, match="cannot write"):
        PACKAGE.save(tmp_path / "no" / "a.npu")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "the model takes x; given was nothing"),
        ({"x": np.zeros((2, 1, 8, 9), np.float32)}, r"input x has the shape \(2, 1, 8, 9\)"),
        ({"x": np.zeros((0, 1, 8, 8), np.float32)}, r"input x has the shape \(0, 1, 8, 8\)"),
        ({"x": np.zeros((1, 1, 8, 8))}, "input x is float64"),
        ({"x": np.full((1, 1, 8, 8), np.nan, np.float32)}, "not finite"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs, message):
    with pytest.raises(InputError, match=message):
        run(PACKAGE, inputs)
