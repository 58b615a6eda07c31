"""Random int8 graphs through interpreter, RTL and ONNX Runtime, every layer compared bit by bit.

The graphs are drawn from the compiler's whole operator list, as QOperator and as QDQ; a seed gives
the same graph every time. Run from the checkout's root (the first run for a board builds its
simulator):

    python benchmarks/npu_graphs.py [--count 300] [--first 0] [--board ecp5-85f]
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edgekit_fpga import compile_model
from edgekit_fpga.errors import BoardError, GraphError
from edgekit_fpga.proving import compare_all
from tests.edgekit_fpga.random_graphs import FEATURES, features, random_graph

PAIRS = ("interpreter-onnxruntime", "interpreter-rtl", "rtl-onnxruntime")


def main() -> int:
    """Compare until `count` graphs went through all three; 1 where any value differed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--board", default="ecp5-85f")
    given = parser.parse_args()
    compared: Counter[str] = Counter()
    differ: Counter[str] = Counter()
    used: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    wrong: list[int] = []
    seed, done = given.first, 0
    while done < given.count:
        model, inputs = random_graph(seed)
        try:
            package = compile_model(model, given.board, integer_averages=True)
        except (GraphError, BoardError) as error:
            print(f"seed {seed}: {error}")
            refused["board" if isinstance(error, BoardError) else "graph"] += 1
        else:
            pairs = compare_all(package, model, inputs, rtl=1)
            compared.update({pair: result.compared for pair, result in pairs.items()})
            differ.update({pair: result.mismatches for pair, result in pairs.items()})
            if any(result.mismatches for result in pairs.values()):
                wrong.append(seed)
            used.update(features(model))
            done += 1
        seed += 1
    print(f"\nseeds {given.first} to {seed - 1}: {done} graphs compared on {given.board}")
    print(f"refused: {refused['graph']}, too large for the board: {refused['board']}")
    for pair in PAIRS:
        print(f"{pair:26}{compared[pair]:>12,} values compared, {differ[pair]} differ")
    print(f"seeds with a difference: {wrong or 'none'}\n\ngraphs that use")
    for name in sorted(FEATURES, key=lambda name: (-used[name], name)):
        print(f"  {name:20}{used[name]:>5}")
    return 1 if wrong or FEATURES - set(used) else 0


if __name__ == "__main__":
    sys.exit(main())
