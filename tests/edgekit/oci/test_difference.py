"""Differences of files: they give the very file back, are short, and harm nobody."""

import io
import random
import struct

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import Corrupt
from edgekit.oci import difference
from edgekit.oci.difference import BLOCK, apply_difference, write_difference


def written(old, new):
    out = io.BytesIO()
    write_difference(io.BytesIO(old), len(old), io.BytesIO(new), len(new), out)
    return out.getvalue()


def applied(delta, old, size):
    return b"".join(apply_difference(io.BytesIO(delta), io.BytesIO(old), size))


def weights(count=500_000, seed=0):
    return np.random.default_rng(seed).normal(0, 0.05, count).astype(np.float32)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_what_is_written_gives_the_file_back(old, new):
    assert applied(written(old, new), old, len(new)) == new


def test_files_of_many_blocks_come_back(monkeypatch):
    monkeypatch.setattr(difference, "BLOCK", 1000)
    old = random.Random(1).randbytes(10_001)
    for new in (old, old[:5000] + b"xyz" + old[5000:], old[7:], old * 2, b"", old[::-1]):
        assert applied(written(old, new), old, len(new)) == new


def test_the_same_file_costs_nearly_nothing():
    old = weights().tobytes()
    assert len(written(old, old)) < 500


def test_a_few_changed_weights_cost_about_themselves():
    old, new = weights(), weights()
    new[-5000:] *= 1.01
    assert len(written(old.tobytes(), new.tobytes())) < 5000 * 4


def test_weights_that_all_moved_a_little_cost_less_than_two_thirds():
    old = weights()
    new = old * (1 + np.random.default_rng(1).normal(0, 1e-3, len(old)).astype(np.float32))
    assert len(written(old.tobytes(), new.tobytes())) < new.nbytes * 0.6


def test_what_was_shifted_is_found_again():
    old = weights().tobytes()
    assert len(written(old, b"a new header" + old)) < 1000
    assert len(written(old, old[:999_999] + b"a new tensor" + old[999_999:])) < 2**20


HEAD = struct.pack("<8sIIQ", b"edgekitD", 1, BLOCK, 8)


@pytest.mark.parametrize(
    "delta",
    [
        b"",
        b"edgekitX" + HEAD[8:],
        HEAD[:8] + struct.pack("<IIQ", 2, BLOCK, 8),
        HEAD[:8] + struct.pack("<IIQ", 1, BLOCK, 9),
        HEAD,
        HEAD + struct.pack("<qI", 0, 2**31),
        HEAD + struct.pack("<qI", -8, 5) + b"12345",
        HEAD + struct.pack("<qI", -(2**62), 5) + b"12345",
        HEAD + struct.pack("<qI", 2**62, 5) + b"12345",
        HEAD + struct.pack("<qI", 0, 5) + b"12345",
        HEAD + struct.pack("<qI", 0, 500) + b"short",
        written(b"12345678", b"abcdefgh") + b"more",
        written(b"12345678", b"abcdefgh")[:-1],
    ],
)
def test_a_delta_that_is_none(delta):
    with pytest.raises(Corrupt):
        applied(delta, b"12345678", 8)


def test_a_block_that_unpacks_to_gigabytes_is_refused_before_it_does():
    compressor = zstandard.ZstdCompressor()
    bomb = compressor.compress(bytes(64 * BLOCK))
    assert len(bomb) < 2 * BLOCK
    with pytest.raises(Corrupt, match="another size"):
        applied(HEAD + struct.pack("<qI", -(2**63), len(bomb)) + bomb, b"", 8)


def test_a_block_that_does_not_tell_its_size_is_refused():
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(8))
    with pytest.raises(Corrupt, match="another size"):
        applied(HEAD + struct.pack("<qI", -(2**63), len(frame)) + frame, b"", 8)
