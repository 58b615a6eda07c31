"""Holding a package against its model, and measuring it: prove, bench, profile."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.fpga_files import PACKAGE, random_inputs, read_inputs, read_model, write_text
from edgekit.cli.output import json_option, print_json, print_table, say

if TYPE_CHECKING:
    from edgekit_fpga import Package


def streamed(package: "Package") -> dict[str, Any]:
    """What the weights cost that PACKAGE streams in, for `--json`; `say_streamed` says it."""
    from edgekit_fpga.profiling import streaming

    cost = streaming(package)
    return {"streaming": None if cost is None else vars(cost)}


def say_streamed(package: "Package") -> None:
    """Say what the weights cost that a package streams in; nothing where all are resident."""
    from edgekit_fpga.profiling import streaming

    cost, board = streaming(package), package.board
    if cost is None:
        return
    link = f"{board.link.baud:,} baud" if board.link.baud else f"its {board.link.kind} link"
    say(
        f"weight memory is too small: each run streams {cost.bytes_in:,} bytes in over {link}, "
        f"{cost.link:,} cycles, of which its layers wait for {cost.waiting:,}; before each run "
        f"{cost.again:,} bytes are loaded again"
    )


def stream_pace(package: "Package", backend: str) -> str | None:
    """How fast weights stream in where a backend counts or estimates cycles; None without any."""
    from edgekit_fpga.profiling import streaming

    if streaming(package) is None:
        return None
    return "at 4 bytes a cycle, as the simulation does" if backend == "rtl" else "over its link"


@click.command("prove")
@click.argument("package", type=PACKAGE)
@click.argument("model")
@click.option("--input", "source", type=PACKAGE, help="Real inputs by name, .npz; else random.")
@click.option("--count", default=64, show_default=True, help="How many random inputs.")
@click.option("--seed", default=0, show_default=True, help="Where the random inputs start.")
@click.option(
    "--rtl",
    type=click.IntRange(min=0),
    metavar="N",
    help="Simulate the first N inputs in RTL.  [default: 1 where Verilator is installed]",
)
@json_option
def prove_(
    package: Path,
    model: str,
    source: Path | None,
    count: int,
    seed: int,
    rtl: int | None,
    as_json: bool,
) -> None:
    """Prove PACKAGE again from MODEL, then compare every layer, bit by bit.

    The integer interpreter, the NPU's Verilog and ONNX Runtime are held against each other. The
    first run for a board builds its simulator, which takes about a minute; --rtl 0 leaves it out.

    \b
    Examples:
      edgekit fpga prove digits.npu digits.int8.onnx
      edgekit fpga prove digits.npu digits.int8.onnx --rtl 0 --count 500
      edgekit fpga prove digits.npu digits.int8.onnx --input test.npz --json
    """
    from edgekit_fpga import compile_model, read_package
    from edgekit_fpga.proving import compare_all

    loaded, data = read_package(package), read_model(model)
    averages = bool(loaded.manifest["integer_averages"])
    again = compile_model(data, loaded.board, integer_averages=averages)
    inputs = read_inputs(source, loaded) if source else random_inputs(loaded, count, seed)
    rtl = simulated_by_default() if rtl is None else rtl
    results = compare_all(loaded, data, inputs, rtl=rtl)
    same = again.to_bytes() == loaded.to_bytes()
    wrong = any(result.mismatches for result in results.values()) or not same
    if as_json:
        print_json(
            {
                "ok": not wrong,
                "reproduced": same,
                "proved": again.manifest["proof"],
                "pairs": {
                    pair: {"compared": result.compared, "mismatches": result.mismatches}
                    for pair, result in results.items()
                },
            }
        )
    else:
        for pair, result in results.items():
            rows = [(name, size, bad) for name, (size, bad) in result.tensors.items()]
            title = pair.replace("-", " and ")
            print_table(title, ("Tensor", "Compared", "Mismatches"), rows)
            say(f"{result.compared:,} values compared, {result.mismatches:,} differ")
        say(
            "the package is what the model compiles to"
            if same
            else "the model compiles to another package"
        )
    if wrong:
        raise click.exceptions.Exit(1)


def simulated_by_default() -> int:
    """How many inputs are simulated where nobody says: one, if the tools for it are here."""
    from edgekit_fpga.simulate import SimulationError
    from edgekit_fpga.simulate.verilator import check_tools

    logging.getLogger("edgekit_fpga.simulate").setLevel(logging.INFO)  # building takes a while
    try:
        check_tools()
    except SimulationError as error:
        say(f"the RTL is left out: {error} ({error.hint})")
        return 0
    return 1


@click.command("bench")
@click.argument("package", type=PACKAGE)
@click.option("--count", default=32, show_default=True, help="How many random inputs.")
@click.option("--rtl", is_flag=True, help="Measure the cycles of one input in RTL simulation.")
@json_option
def bench(package: Path, count: int, rtl: bool, as_json: bool) -> None:
    """Measure PACKAGE: cycles, use of the multipliers, inferences a second.

    Cycles count from start to done, host transfer apart. They come from the schedule; with --rtl
    from the NPU's Verilog, which takes about a minute the first time for a board.

    \b
    Examples:
      edgekit fpga bench digits.npu
      edgekit fpga bench digits.npu --rtl --json
    """
    import time

    from edgekit_fpga.driver import open_driver, read_package

    loaded = read_package(package)
    array, macs = loaded.board.array, loaded.manifest["macs"]
    inputs = random_inputs(loaded, count, 0)
    cycles = loaded.manifest["cycles"]["total"]
    if rtl:
        count, inputs = 1, {name: value[:1] for name, value in inputs.items()}
    with open_driver("rtl" if rtl else "interpreter") as driver:
        begin = time.perf_counter()
        made = driver.run(loaded, inputs)
        seconds = time.perf_counter() - begin
    cycles = max(made.cycles, default=cycles)
    pace = stream_pace(loaded, driver.backend)
    data = {
        "backend": driver.backend,
        "board": loaded.board.name,
        "array": f"{array.reduction_lanes}x{array.output_lanes}",
        "macs": macs,
        "cycles": cycles,
        "utilization": macs / (array.macs * cycles),
        "microseconds": cycles / loaded.board.clock_mhz,
        "inferences": count,
        "seconds": seconds,
        "streaming": pace,
    }
    if as_json:
        print_json(data)
        return
    source = "measured in RTL simulation" if rtl else "estimated from the schedule"
    if pace:
        source += f", weights streaming in {pace}"
    say(f"{macs:,} MACs on {data['array']} in {cycles:,} cycles {source}")
    say(
        f"{100 * data['utilization']:.1f}% of the multipliers, {data['microseconds']:,.0f} us at "
        f"{loaded.board.clock_mhz} MHz"
    )
    say(f"{count} inferences took {seconds:.2f} s here ({data['backend']})")


@click.command("profile")
@click.argument("package", type=PACKAGE)
@click.option("--svg", "picture", type=PACKAGE, help="Draw layers and memory over time.")
@click.option("--html", "page", type=PACKAGE, help="The picture and the tables as a page.")
@json_option
def profile(package: Path, picture: Path | None, page: Path | None, as_json: bool) -> None:
    """Show where PACKAGE spends its cycles and its memory.

    For each layer its cycles, its use of the array and its memory; for each tensor where it lies in
    activation memory, and from which layer to which.

    \b
    Examples:
      edgekit fpga profile digits.npu
      edgekit fpga profile digits.npu --svg digits.svg
      edgekit fpga profile digits.npu --html digits.html
    """
    from edgekit_fpga import read_package
    from edgekit_fpga.profiling import LAYER_COLUMNS, MEMORY_COLUMNS, memory_map
    from edgekit_fpga.profiling import profile as measured
    from edgekit_fpga.timeline import html, svg

    loaded = read_package(package)
    layers, memory = measured(loaded), memory_map(loaded)
    if picture is not None:
        write_text(picture, svg(loaded))
    if page is not None:
        write_text(page, html(loaded))
    total = loaded.manifest["cycles"]["total"]
    macs = sum(layer.macs for layer in layers)
    busy = macs / (loaded.board.array.macs * total)
    if as_json:
        print_json(
            {
                "layers": [vars(layer) for layer in layers],
                "memory": [vars(use) for use in memory],
                "cycles": total,
                "macs": macs,
                "utilization": busy,
            }
            | streamed(loaded)
        )
        return
    print_table("Layers", LAYER_COLUMNS, [layer.row for layer in layers])
    print_table("Activation memory", MEMORY_COLUMNS, [use.row for use in memory])
    say(f"{total:,} cycles estimated, {100 * busy:.1f}% of the array's multipliers")
    say_streamed(loaded)
