from collections import Counter

import numpy as np
import pytest

from edgekit_fpga import compare, compile_model
from edgekit_fpga.boards import load_board
from edgekit_fpga.compiler import import_model, passes_for
from edgekit_fpga.compiler.execute import execute
from edgekit_fpga.errors import GraphError, Refused
from edgekit_fpga.package import package_from_bytes
from tests.edgekit_fpga.random_graphs import FEATURES, features, random_graph

BOARD = "generic-axi"
# the rare product whose float rounding no constants reproduce is refused by name, and so is a graph
# whose one layer is an average that only the CPU can compute
REFUSED = ("no fixed-point constants", "nothing of the model runs on the NPU")
DECADES = 30


def compiled(seed):
    """The package, or None where the graph holds one of the refused nodes."""
    model, _ = random_graph(seed)
    try:
        return compile_model(model, BOARD, integer_averages=True)
    except Refused as refusal:
        reasons = [problem.reason for problem in refusal.problems]
    except GraphError as error:
        reasons = [str(error)]
    assert all(any(word in reason for word in REFUSED) for reason in reasons), (
        f"seed {seed}: {reasons}"
    )
    return None


@pytest.mark.parametrize("decade", range(DECADES))
def test_random_graphs_are_bit_equal_on_every_layer(decade):
    compared = 0
    for seed in range(10 * decade, 10 * decade + 10):
        package = compiled(seed)
        if package is not None:
            package = package_from_bytes(package.to_bytes())
            result = compare(package, *random_graph(seed))
            assert result.mismatches == 0, f"seed {seed}: {result.tensors}"
            compared += 1
    assert compared >= 9


def test_every_operator_occurs_in_many_graphs():
    counts = Counter(
        name for seed in range(10 * DECADES) for name in features(random_graph(seed)[0])
    )
    assert {name: counts[name] for name in FEATURES if counts[name] < 8} == {}


@pytest.mark.parametrize("seed", range(40))
def test_no_pass_changes_a_tensor(seed):
    if compiled(seed) is None:
        seed += 1000
    model, _ = random_graph(seed)
    graph = import_model(model, integer_averages=True).graph
    random = np.random.default_rng(seed)
    inputs = {
        name: random.integers(-128, 128, (2, *graph.tensors[name].shape), np.int8)
        for name in graph.inputs
    }
    before = execute(graph, inputs)
    for name, transform in passes_for(load_board(BOARD)):
        graph = transform(graph)
        after = execute(graph, inputs)
        for tensor in set(before) & set(after):
            same = np.array_equal(after[tensor], before[tensor])
            assert same, f"seed {seed}: pass {name} changed {tensor}"
