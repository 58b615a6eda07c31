import re

from edgekit_fpga import rtl


def test_the_instruction_package_is_the_one_generated_from_the_isa():
    assert rtl.sources()["npu_isa.sv"] == rtl.isa_package()


def test_packages_come_first_and_every_module_has_its_own_file_and_a_header():
    sources = rtl.sources()
    assert tuple(sources)[:2] == rtl.PACKAGES
    for name, text in sources.items():
        kind = "package" if name in rtl.PACKAGES else "module"
        assert text.startswith("// ")
        assert f"\n{kind} {name.removesuffix('.sv')}" in text


def test_no_cast_follows_a_unary_operator():
    # Yosys 0.70 takes `~16'(x)` for a cast to ~16 bits
    for name, text in rtl.sources().items():
        code = re.sub(r"//.*", "", text)
        assert re.findall(r"(?:[=(,?:&|^<>+*-]\s*[~!-]|[~!])\s*\w+'\(", code) == [], name
