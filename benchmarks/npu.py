"""How busy the NPU's multipliers are on the four MLPerf Tiny nets, and how fast the tools are.

Cycles count from start to done, host transfer apart. The tools' times are processor seconds, of
this program and those it starts, so that what else the machine does counts little. Run from the
checkout's root:

    python benchmarks/npu.py [--board ecp5-85f] [--rtl]

With --rtl the cycles are measured in Verilator beside the estimate (the first run for a board
builds its simulator), and every tensor in memory is compared with the interpreter. The simulation
brings weights that stream in at 4 bytes a cycle, and the estimate beside it assumes the same;
without --rtl it assumes the board's link.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import onnx

from benchmarks.tiny_nets import NETS, int8_net, samples
from edgekit_fpga import Package, compare, compile_model, run, simulate
from edgekit_fpga.boards import load_board
from edgekit_fpga.cycles import program_cycles
from edgekit_fpga.errors import BoardError
from edgekit_fpga.simulate.npu import simulator

BATCH = 32


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds that `work` takes, here and in the programs it starts."""
    begin = os.times()
    work()
    end = os.times()
    return sum(end[:4]) - sum(begin[:4])


def measure(name: str, board: str, *, rtl: bool) -> tuple[str, str]:
    """Compile one net and compare it with ONNX Runtime: its lines of the two tables."""
    model = int8_net(name)
    packages: list[Package] = []
    try:
        compiling = seconds(lambda: packages.append(compile_model(model, board)))
    except BoardError as error:
        return f"{name:18}{error}", ""
    package = packages[0]
    inputs = samples(onnx.load_model_from_string(model), BATCH)
    one = {key: value[:1] for key, value in inputs.items()}
    run(package, inputs)
    batch = seconds(lambda: run(package, inputs)) / BATCH
    single = seconds(lambda: [run(package, one) for _ in range(BATCH)]) / BATCH
    result = compare(package, model, {key: value[:4] for key, value in inputs.items()})
    assumed = simulate.simulated(package.board) if rtl else package.board
    macs = package.manifest["macs"]
    cycles = sum(program_cycles(package.program.instructions, assumed))
    line = (
        f"{name:18}{macs:>11,}{cycles:>9,}{use(package, cycles):>7}"
        f"{result.compared:>11,}{result.mismatches:>8,}"
    )
    tools = f"{name:18}{compiling:>9.2f} s{rate(single):>11}{rate(batch):>13}"
    if rtl:
        line += simulated(package, one)
        tools += f"{seconds(lambda: simulate.run(package, one)):>11.2f} s"
    return line, tools


def rate(spent: float) -> str:
    """Runs a second; processor time comes in steps, so a run may take none that is seen."""
    return f"{1 / spent:,.0f}/s" if spent else "-"


def simulated(package: Package, inputs: dict[str, object]) -> str:
    """The RTL's cycles, use and mismatches, as the end of a line."""
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
    if given.rtl:
        simulator(load_board(given.board))
    head = f"{given.board:18}{'MACs':>11}{'model':>9}{'use':>7}{'onnxrt':>11}{'differ':>8}"
    tools_head = f"{'':18}{'compile':>11}{'one by one':>11}{f'batch of {BATCH}':>13}"
    if given.rtl:
        head += f"{'RTL':>9}{'use':>7}{'compared':>11}{'differ':>8}"
        tools_head += f"{'Verilator':>13}"
    print(head)
    tools = []
    for name in NETS:
        line, speed = measure(name, given.board, rtl=given.rtl)
        print(line, flush=True)
        tools.append(speed)
    print("\nprocessor seconds: compiling with its proof, interpreter, one simulated inference")
    print("\n".join([tools_head, *filter(None, tools)]))


if __name__ == "__main__":
    main()
