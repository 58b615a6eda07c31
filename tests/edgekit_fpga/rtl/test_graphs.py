import pytest

from edgekit_fpga import compile_model
from edgekit_fpga.errors import BoardError, GraphError
from edgekit_fpga.proving import compare_all
from tests.edgekit_fpga.random_graphs import random_graph

# the time is for building the simulator on a machine that has other things to do
pytestmark = [pytest.mark.needs("verilator"), pytest.mark.timeout(600)]

# `benchmarks/npu_graphs.py` takes 300
DECADES = 6


@pytest.mark.parametrize("decade", range(DECADES))
def test_interpreter_rtl_and_onnx_runtime_agree_on_random_graphs(decade):
    compared = 0
    for seed in range(10 * decade, 10 * decade + 10):
        model, inputs = random_graph(seed)
        try:
            package = compile_model(model, integer_averages=True)
        except (BoardError, GraphError):
            # too large for the board; what is refused, and why, is test_random_graphs' matter
            continue
        pairs = compare_all(package, model, inputs, rtl=1)
        wrong = {pair: result.tensors for pair, result in pairs.items() if result.mismatches}
        assert wrong == {}, f"seed {seed}"
        assert min(result.compared for result in pairs.values()) > 0
        compared += 1
    assert compared >= 7
