"""How busy the NPU's multipliers are on the four MLPerf Tiny nets, and how fast the tools are.

Cycles count from start to done, host transfer apart. Run from the checkout's root:

    python benchmarks/npu.py [--board ecp5-85f]
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import onnx

from benchmarks.tiny_nets import NETS, int8_net, samples
from edgekit_fpga import compare, compile_model, run


def measure(name: str, board: str) -> None:
    """Compile one net, compare it with ONNX Runtime, and print a line."""
    model = int8_net(name)
    begin = time.perf_counter()
    package = compile_model(model, board)
    compiling = time.perf_counter() - begin
    inputs = samples(onnx.load_model_from_string(model), 32)
    run(package, inputs)
    begin = time.perf_counter()
    run(package, inputs)
    rate = 32 / (time.perf_counter() - begin)
    result = compare(package, model, {key: value[:4] for key, value in inputs.items()})
    macs, cycles = package.manifest["macs"], package.manifest["cycles"]["total"]
    busy = macs / (package.board.array.macs * cycles)
    print(
        f"{name:18}{macs:>12,}{cycles:>10,}{100 * busy:>8.1f}%{compiling:>9.2f} s{rate:>9.0f}/s"
        f"{result.compared:>12,}{result.mismatches:>8,}"
    )


def main() -> None:
    """Measure all nets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--board", default="ecp5-85f")
    board = parser.parse_args().board
    print(
        f"{board:18}{'MACs':>12}{'cycles':>10}{'use':>9}{'compile':>11}{'interpret':>11}"
        f"{'compared':>12}{'differ':>8}"
    )
    for name in NETS:
        measure(name, board)


if __name__ == "__main__":
    main()
