import pytest

from edgekit_fpga import compare, compile_model
from edgekit_fpga.compiler import import_model, passes_for
from edgekit_fpga.compiler.execute import execute
from edgekit_fpga.boards import load_board
from edgekit_fpga.errors import Refused
from edgekit_fpga.running import to_stored
from tests.edgekit_fpga.random_graphs import random_graph

BOARD = "generic-axi"
# averages whose ties ONNX Runtime decides by the order of a float sum are refused
REFUSED = "fall on ties"


@pytest.mark.parametrize("decade", range(30))
def test_random_graphs_are_bit_equal_on_every_layer(decade):
    compared = 0
    for seed in range(10 * decade, 10 * decade + 10):
        model, inputs = random_graph(seed)
        try:
            package = compile_model(model, BOARD)
        except Refused as refusal:
            assert all(REFUSED in problem.reason for problem in refusal.problems), f"seed {seed}"
            continue
        result = compare(package, model, inputs)
        assert result.mismatches == 0, f"seed {seed}: {result.tensors}"
        compared += result.compared
    assert compared > 0
