from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_fpga import isa
from edgekit_fpga.errors import IsaError

DOCUMENT = Path(__file__).parents[2] / "docs" / "npu-isa.md"


@st.composite
def instructions(draw: st.DrawFn, kinds: tuple[type[isa.Instruction], ...] = isa.KINDS):
    kind = draw(st.sampled_from(kinds))
    values = {}
    for name, (_, width, signed) in isa.layout(kind).items():
        low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if signed else (0, 2**width - 1)
        values[name] = draw(st.integers(low, high))
    return kind(**values)


programs = st.lists(instructions(isa.KINDS[1:]), max_size=4).map(lambda body: (*body, isa.End()))


@given(programs)
def test_a_program_decodes_to_itself(program):
    assert isa.decode_program(isa.encode_program(program)) == program


@given(programs)
def test_a_program_assembles_from_its_disassembly(program):
    assert isa.assemble(isa.disassemble(program)) == program


@given(st.binary(min_size=isa.INSTRUCTION_BYTES, max_size=isa.INSTRUCTION_BYTES))
def test_bytes_decode_to_what_encodes_to_them_or_not_at_all(data):
    try:
        instruction = isa.decode(data)
    except IsaError:
        return
    assert isa.encode(instruction) == data


@pytest.mark.parametrize("kind", isa.KINDS)
def test_no_two_fields_share_a_bit(kind):
    taken = 0xFF
    for low, width, _ in isa.layout(kind).values():
        bits = ((1 << width) - 1) << low
        assert taken & bits == 0
        taken |= bits
    assert taken < 1 << 8 * isa.INSTRUCTION_BYTES


def test_a_value_too_wide_for_its_field_is_refused():
    with pytest.raises(IsaError, match=r"CONV: pad_value=128 does not fit 8 bits"):
        isa.Conv(pad_value=128)


def test_a_bit_that_no_field_owns_is_refused():
    data = bytearray(isa.encode(isa.End()))
    data[5] = 1
    with pytest.raises(IsaError, match="END: bit 40 is set and means nothing"):
        isa.decode(bytes(data))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROB", "line 1: no instruction is called FROB"),
        ("END\nCONV wieght=1", "line 2: CONV has no field in 'wieght=1'"),
        ("LOAD count=1 count=2", "line 1: LOAD names count twice"),
    ],
)
def test_assembly_errors_name_the_line(text, message):
    with pytest.raises(IsaError) as error:
        isa.assemble(text)
    assert str(error.value) == message


@pytest.mark.parametrize("body", [b"", b"x", isa.encode(isa.Load()), isa.encode(isa.End()) * 2])
def test_a_program_is_whole_and_ends_once(body):
    with pytest.raises(IsaError):
        isa.decode_program(body)


def test_the_document_has_the_encoding_of_the_code():
    assert isa.encoding_table() in DOCUMENT.read_text()
