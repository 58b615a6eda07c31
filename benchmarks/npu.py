"""How busy the NPU's multipliers are on the four MLPerf Tiny nets, and how fast the tools are.

Cycles count from start to done, host transfer apart. Run from the checkout's root:

    python benchmarks/npu.py [--board ecp5-85f] [--rtl]

With --rtl the cycles are measured in Verilator beside the estimate (the first run for a board
builds its simulator), and every tensor in memory is compared with the interpreter.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import onnx

from benchmarks.tiny_nets import NETS, int8_net, samples
from edgekit_fpga import Package, compare, compile_model, run
from edgekit_fpga.errors import BoardError

BATCH = 32


def measure(name: str, board: str, *, rtl: bool) -> None:
    """Compile one net, compare it with ONNX Runtime, and print a line."""
    model = int8_net(name)
    begin = time.perf_counter()
    try:
        package = compile_model(model, board)
    except BoardError as error:
        print(f"{name:18}{error}")
        return
    compiling = time.perf_counter() - begin
    inputs = samples(onnx.load_model_from_string(model), BATCH)
    run(package, inputs)
    begin = time.perf_counter()
    run(package, inputs)
    rate = BATCH / (time.perf_counter() - begin)
    result = compare(package, model, {key: value[:4] for key, value in inputs.items()})
    macs, cycles = package.manifest["macs"], package.manifest["cycles"]["total"]
    line = (
        f"{name:18}{macs:>11,}{cycles:>9,}{use(package, cycles):>7}{compiling:>8.2f} s"
        f"{rate:>8.0f}/s{result.compared:>11,}{result.mismatches:>8,}"
    )
    if rtl:
        line += simulated(package, {key: value[:1] for key, value in inputs.items()})
    print(line, flush=True)


def simulated(package: Package, inputs: dict[str, object]) -> str:
    """The RTL's cycles, use and mismatches, as the end of a line."""
    from edgekit_fpga import simulate

    _, (cycles, *_) = simulate.run(package, inputs)
    result = simulate.compare(package, inputs)
    return f"{cycles:>9,}{use(package, cycles):>7}{result.compared:>11,}{result.mismatches:>8,}"


def use(package: Package, cycles: int) -> str:
    """The share of the array's multiply-accumulates that do useful work."""
    return f"{100 * package.manifest['macs'] / (package.board.array.macs * cycles):.1f}%"


def main() -> None:
    """Measure all nets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--board", default="ecp5-85f")
    parser.add_argument("--rtl", action="store_true", help="measure cycles in Verilator too")
    given = parser.parse_args()
    head = (
        f"{given.board:18}{'MACs':>11}{'model':>9}{'use':>7}{'compile':>10}{'interpret':>10}"
        f"{'onnxrt':>11}{'differ':>8}"
    )
    if given.rtl:
        head += f"{'RTL':>9}{'use':>7}{'compared':>11}{'differ':>8}"
    print(head)
    for name in NETS:
        measure(name, given.board, rtl=given.rtl)


if __name__ == "__main__":
    main()
