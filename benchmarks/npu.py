"""How busy the NPU's multipliers are on the four MLPerf Tiny nets, and how fast the tools are.

Cycles count from start to done, host transfer apart: estimated by the compiler, and measured in the
RTL, which must give the interpreter's outputs (the first run builds its simulator). Run from the
checkout's root:

    python benchmarks/npu.py [--board ecp5-85f]
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import onnx

from benchmarks.tiny_nets import NETS, int8_net, samples
from edgekit_fpga import compare, compile_model, run, simulate


def measure(name: str, board: str) -> None:
    """Compile one net, compare it with ONNX Runtime and the RTL, and print a line."""
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
    one = {key: value[:1] for key, value in inputs.items()}
    simulate.run(package, one)
    begin = time.perf_counter()
    _, (measured,) = simulate.run(package, one)
    simulating = time.perf_counter() - begin
    rtl = simulate.compare(package, one)
    macs, estimated = package.manifest["macs"], package.manifest["cycles"]["total"]
    busy = macs / (package.board.array.macs * measured)
    print(
        f"{name:17}{macs:>11,}{estimated:>10,}{measured:>10,}{100 * busy:>7.1f}%"
        f"{compiling:>8.2f} s{rate:>8.0f}/s{simulating:>6.2f} s"
        f"{result.compared + rtl.compared:>11,}{result.mismatches + rtl.mismatches:>7,}"
    )


def main() -> None:
    """Measure all nets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--board", default="ecp5-85f")
    board = parser.parse_args().board
    print(
        f"{board:17}{'MACs':>11}{'estimated':>10}{'measured':>10}{'use':>8}"
        f"{'compile':>10}{'interpret':>10}{'RTL':>8}{'compared':>11}{'differ':>7}"
    )
    for name in NETS:
        measure(name, board)


if __name__ == "__main__":
    main()
