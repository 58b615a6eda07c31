import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit_fpga import compile_model, isa, run
from edgekit_fpga.checking import check_program
from edgekit_fpga.errors import FpgaError, IsaError
from edgekit_fpga.package import digests, package_from_bytes
from tests.edgekit_fpga.graphs import small_net
from tests.edgekit_fpga.rtl.random_layers import Generator

PACKAGE = compile_model(small_net(0))
IMAGES = {"x": np.zeros((1, 1, 8, 8), np.float32)}


def with_instruction(index, **fields):
    """The package with fields of an instruction changed, and made consistent again."""
    steps = list(PACKAGE.program.instructions)
    steps[index] = dataclasses.replace(steps[index], **fields)
    program = dataclasses.replace(PACKAGE.program, instructions=tuple(steps))
    manifest = {**PACKAGE.manifest, "files": digests(program)}
    return dataclasses.replace(PACKAGE, manifest=manifest, program=program)


def test_a_compiled_program_passes():
    check_program(PACKAGE.program, PACKAGE.board)


@pytest.mark.parametrize(
    ("index", "fields", "message"),
    [
        (0, {"out_base": 2040}, "its out tensor reaches beyond activation memory"),
        (0, {"in_height": 60000}, "its in tensor reaches beyond activation memory"),
        (0, {"in_rotation": 5}, "its in tensor is rotated by 5 of 4 banks"),
        (0, {"channels": 40}, "a patch of 360 bytes"),
        (1, {"weights": 2559}, "it reads weights that nothing has loaded"),
        (1, {"requant": 60}, "it reads beyond requant memory"),
        (1, {"steps": 0}, "0 steps"),
        (1, {"stride_width": 0}, "stride_width is 0"),
        (2, {"add_table": 1}, "it reads beyond table memory"),
        (2, {"add_shift": 60}, "add_shift is 60"),
        (2, {"steps": 3}, "3 steps for 1 taps of 2 granules"),
        (3, {"kernel_height": 40}, "a window of 80 taps, ecp5-85f has 16"),
        (3, {"pool": 1}, "only sums are pooled"),
        (4, {"out_height": 60000}, "larger than activation memory"),
        (1, {"low": 5, "high": 4}, "it clamps to 5 and 4"),
        (2, {"add_low": 5, "add_high": 4}, "its add clamps to 5 and 4"),
        (4, {"pool_low": 5, "pool_high": 4}, "its pool clamps to 5 and 4"),
    ],
)
def test_a_program_that_leaves_its_memories_is_refused(index, fields, message):
    package = with_instruction(index, **fields)
    with pytest.raises(FpgaError, match=rf"instruction {index} .*{message}"):
        package_from_bytes(package.to_bytes())


@pytest.mark.parametrize("side", ["pad_top", "pad_left"])
def test_a_product_with_padding_is_refused_because_cores_would_read_beside_it(side):
    program = Generator(PACKAGE.board, 3).program(["MUL"])
    check_program(program, PACKAGE.board)
    step = dataclasses.replace(program.instructions[0], **{side: 1})
    program = dataclasses.replace(program, instructions=(step, *program.instructions[1:]))
    with pytest.raises(IsaError, match=r"instruction 0 \(MUL\): MUL has nothing around its planes"):
        check_program(program, PACKAGE.board)


LAYERS = [
    (index, name, place)
    for index, step in enumerate(PACKAGE.program.instructions)
    if isinstance(step, isa.Layer)
    for name, place in isa.layout(type(step)).items()
]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(LAYERS), st.integers(0, 2**32 - 1))
def test_whatever_a_field_holds_the_program_runs_or_is_refused(where, bits):
    index, name, (_, width, signed) = where
    value = bits & ((1 << width) - 1)
    if signed and value >> (width - 1):
        value -= 1 << width
    package = with_instruction(index, **{name: value})
    try:
        read = package_from_bytes(package.to_bytes())
    except FpgaError:
        return
    assert run(read, IMAGES)["y"].shape == (1, 10)


def test_a_stream_that_ends_early_is_refused():
    steps = (isa.Load(weights=0, count=1), *PACKAGE.program.instructions)
    program = dataclasses.replace(PACKAGE.program, instructions=steps)
    with pytest.raises(IsaError, match="the weight stream ends before its last LOAD"):
        check_program(program, PACKAGE.board)
