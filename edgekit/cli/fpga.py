"""`edgekit fpga`: compile int8 graphs for the NPU, run them, prove them, look inside."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli.artefacts import delete_package, list_packages, tag_package
from edgekit.cli.ending import ended_by_signals
from edgekit.cli.fpga_backend import backend_options, package_file
from edgekit.cli.fpga_files import (
    PACKAGE,
    make_folder,
    read_inputs,
    read_model,
    registered,
    write_outputs,
    write_text,
)
from edgekit.cli.fpga_measure import bench, profile, prove_, say_streamed, stream_pace, streamed
from edgekit.cli.fpga_packages import pull, push, verify
from edgekit.cli.fpga_serve import serve
from edgekit.cli.output import json_option, phases, print_json, print_table, say

if TYPE_CHECKING:
    from edgekit_fpga import Package
    from edgekit_fpga.compiler.ir import Graph


@click.group()
def fpga() -> None:
    """Compile int8 graphs for the NPU and run them.

    \b
    Examples:
      edgekit fpga compile digits-int8:1 --board ecp5-85f -o digits.npu
      edgekit fpga run digits.npu --input test.npz -o result.npz
      edgekit fpga prove digits.npu digits-int8:1 --input test.npz
      edgekit fpga profile digits.npu
      edgekit fpga serve digits.npu
      edgekit fpga push digits-int8:1 registry.example.com/digits-npu:1 --sign release.key
    """


for _command in (
    *(bench, delete_package, list_packages, profile, prove_, pull, push, serve, tag_package),
    verify,
):
    fpga.add_command(_command)


@fpga.command("compile")
@click.argument("model")
@click.option("--board", default="ecp5-85f", show_default=True, help="See `edgekit fpga boards`.")
@click.option("-o", "--output", required=True, type=PACKAGE, help="The package to write.")
@click.option(
    "--integer-averages",
    is_flag=True,
    help="Round AveragePool in integers where ONNX Runtime rounds it by the order of a float sum.",
)
@click.option(
    "--dump-passes",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the graph behind each pass, the program and its memory map into this folder.",
)
@json_option
def compile_(
    model: str,
    board: str,
    output: Path,
    integer_averages: bool,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Compile MODEL into a package, with the proof of its arithmetic.

    MODEL is an int8 ONNX file, or NAME:VERSION of a registered one; the registry then keeps the
    package too, and knows what it was made from.

    \b
    Examples:
      edgekit fpga compile digits-int8:1 -o digits.npu
      edgekit fpga compile digits.int8.onnx --board ice40-up5k -o digits.npu --json
      edgekit fpga compile digits.int8.onnx -o digits.npu --dump-passes passes
    """
    if named := registered(model):
        from edgekit.packager.fpga import package_fpga

        package, _record = package_fpga(*named, board, integer_averages=integer_averages)
    else:
        from edgekit_fpga import compile_model

        package = compile_model(read_model(model), board, integer_averages=integer_averages)
    package.save(output)
    passes = [] if folder is None else dump_passes(folder, read_model(model), package)
    manifest, array = package.manifest, package.board.array
    total = manifest["cycles"]["total"]
    if as_json:
        keys = ("pass", "layers", "compared", "differ")
        dumped = {"passes": [dict(zip(keys, row, strict=True)) for row in passes]} if folder else {}
        print_json(
            dumped
            | {
                "package": str(output),
                "digest": package.digest,
                "board": package.board.name,
                "macs": manifest["macs"],
                "cycles_estimated": total,
                "stages": manifest["stages"],
                "proved": manifest["proof"],
            }
            | streamed(package)
        )
        return
    if folder:
        print_table("Passes", ("Pass", "Layers", "Values compared", "Differ"), passes)
    proof = manifest["proof"]
    busy = 100 * manifest["macs"] / (array.macs * total)
    micros = total / package.board.clock_mhz
    say(f"{output}: {manifest['npu']['layers']} layers for {package.board.name}, {package.digest}")
    say(
        f"{manifest['macs']:,} MACs in {total:,} cycles estimated ({busy:.0f}% of "
        f"{array.reduction_lanes}x{array.output_lanes}), {micros:,.0f} us at "
        f"{package.board.clock_mhz} MHz"
    )
    say_streamed(package)
    say(
        f"proved equal to float32: {proof['channels']:,} channels at {proof['thresholds']:,} "
        f"thresholds, {proof['pairs']:,} pairs of adds, {proof['tables']} tables"
    )


def dump_passes(folder: Path, model: bytes, package: "Package") -> list[tuple[str, int, int, int]]:
    """Compile once more, and write what each pass leaves; name, layers, values, how many differ.

    Raises:
        ModelError: the folder cannot be written.
    """
    from edgekit_fpga.compiler import compile_model
    from edgekit_fpga.compiler.listing import reports
    from edgekit_fpga.isa import disassemble
    from edgekit_fpga.profiling import memory_map

    steps: list[tuple[str, Graph]] = []
    compile_model(
        model,
        package.board,
        integer_averages=bool(package.manifest["integer_averages"]),
        observe=lambda name, graph: steps.append((name, graph)),
    )
    made = reports(steps)
    make_folder(folder)
    for index, report in enumerate(made):
        write_text(folder / f"{index}-{report.name}.txt", report.text)
    write_text(folder / "program.txt", disassemble(package.program.instructions))
    write_text(folder / "memory.txt", "".join(f"{use}\n" for use in memory_map(package)))
    return [(one.name, one.layers, one.compared, one.differ) for one in made]


@fpga.command("run")
@click.argument("package")
@click.option("--input", "source", required=True, type=PACKAGE, help="Inputs by name, .npz.")
@click.option("-o", "--output", type=PACKAGE, help="Where the outputs go, .npz.")
@backend_options
@json_option
def run_(
    package: str,
    source: Path,
    output: Path | None,
    backend: str,
    device: str,
    baud: int,
    as_json: bool,
) -> None:
    """Run PACKAGE on the arrays of an .npz file: interpreted, in RTL simulation, or on a board.

    PACKAGE is a file, or NAME:VERSION of a model that was compiled into the registry. Arrays the
    model does not take (labels, say) are left out. The first RTL run for a board builds its
    simulator, which takes about a minute.

    \b
    Examples:
      edgekit fpga run digits.npu --input test.npz
      edgekit fpga run digits.npu --input test.npz -o result.npz
      edgekit fpga run digits-int8:1 --input test.npz --backend rtl
      edgekit fpga run digits.npu --input test.npz --backend board --device /dev/ttyUSB0
    """
    import time

    from edgekit_fpga.driver import open_driver, read_package

    loaded = read_package(package_file(package)[0])
    inputs = read_inputs(source, loaded)
    with open_driver(backend, device, baud) as driver:
        begin = time.perf_counter()
        result = driver.run(loaded, inputs)
        seconds = time.perf_counter() - begin
    outputs, cycles = result.outputs, result.cycles
    batch = len(next(iter(outputs.values())))
    if output is not None:
        write_outputs(output, outputs)
    if as_json:
        shapes = {name: list(value.shape) for name, value in outputs.items()}
        measured = {"cycles": max(cycles)} if cycles else {}
        print_json({"outputs": shapes, "inferences": batch, "seconds": seconds} | measured)
        return
    say(f"{batch} inferences in {seconds:.2f} s")
    if cycles:
        macs, array = loaded.manifest["macs"], loaded.board.array
        say(
            f"{max(cycles):,} cycles measured for each, "
            f"{100 * macs / (array.macs * max(cycles)):.1f}% of the array's multipliers"
        )
        if pace := stream_pace(loaded, backend):
            say(f"weights streamed in {pace}")
    if output is not None:
        say(f"wrote {', '.join(outputs)} to {output}")
        return
    for name, value in outputs.items():
        rows = value.reshape(batch, -1)[:10]
        columns = [str(i) for i in range(min(rows.shape[1], 10))]
        shown = [[f"{x:.4g}" for x in row[:10]] for row in rows]
        print_table(f"{name}, the first of {batch}", columns, shown)


@fpga.command("disasm")
@click.argument("package", type=PACKAGE)
@json_option
def disasm(package: Path, as_json: bool) -> None:
    """Print the program of PACKAGE in assembly, one instruction a line.

    \b
    Example:
      edgekit fpga disasm digits.npu
    """
    from edgekit_fpga import read_package
    from edgekit_fpga.isa import disassemble

    text = disassemble(read_package(package).program.instructions)
    if as_json:
        print_json({"instructions": text.splitlines()})
    else:
        click.echo(text, nl=False)


@fpga.command("boards")
@json_option
def boards(as_json: bool) -> None:
    """List the boards that packages can be compiled for.

    \b
    Example:
      edgekit fpga boards
    """
    from edgekit_fpga.boards import board_names, load_board

    known = [load_board(name) for name in board_names()]
    if as_json:
        print_json({"boards": [board.as_dict() for board in known]})
        return
    rows = [
        (
            board.name,
            f"{board.array.reduction_lanes}x{board.array.output_lanes}",
            board.clock_mhz,
            board.memory.activation_granules * board.array.banks * board.array.output_lanes >> 10,
            board.memory.weight_words * board.array.word_bytes >> 10,
            board.about,
        )
        for board in known
    ]
    columns = ("Board", "Array", "MHz", "Activations KB", "Weights KB", "What it is")
    print_table("", columns, rows)


@fpga.command("synth")
@click.option("--board", default="ecp5-85f", show_default=True, help="See `edgekit fpga boards`.")
@click.option("--top", default="", metavar="MODULE", help="One module of the RTL, without pins.")
@click.option("--no-place", is_flag=True, help="Count cells with Yosys; no place and route.")
@click.option("--seed", default=1, show_default=True, help="Where nextpnr's randomness starts.")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep netlist, bitstream, reports and logs in this folder.",
)
@json_option
def synth(
    board: str, top: str, no_place: bool, seed: int, output: Path | None, as_json: bool
) -> int:
    """Synthesize the NPU for a board: resources, clock, and the path that limits it.

    Yosys and nextpnr come from PyPI (pip install 'edgekit[synthesis]') and compile themselves when
    they are first called, which takes a minute. A whole ecp5-85f takes about twenty minutes.

    \b
    Examples:
      edgekit fpga synth --board ecp5-85f -o build
      edgekit fpga synth --board ecp5-85f --no-place
      edgekit fpga synth --board ecp5-85f --top requantizer

    Exits 1 when the design does not fit or is too slow for the board's clock.
    """
    import contextlib
    import tempfile

    from edgekit_fpga.boards import load_board
    from edgekit_fpga.synthesis import carry_out, plan, read_report

    planned = plan(load_board(board), top, place=not no_place, seed=seed)
    with contextlib.ExitStack() as stack:
        stack.enter_context(ended_by_signals())
        folder = output or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="synth-")))
        observe = stack.enter_context(phases(f"{planned.top} for {board}"))
        took = carry_out(planned, folder, observe)
        report = read_report(planned, folder)
    if as_json:
        print_json(
            {
                "board": board,
                "top": planned.top,
                "plan": planned.as_dict(),
                "seconds": {step.step: round(step.seconds, 1) for step in took},
                **report.as_dict(),
            }
        )
        return 0 if report.ok else 1
    rows = [(r.kind, r.used, r.available, f"{100 * r.share:.0f}%") for r in report.resources]
    print_table(f"{planned.top} on {board}", ("Resource", "Used", "Available", "Share"), rows)
    if timing := report.timing:
        path = [(s.signal, s.cells, s.logic, s.routing) for s in timing.path]
        title = f"Slowest path, {timing.nanoseconds:.2f} ns: {timing.start} to {timing.end}"
        print_table(title, ("Signal", "Cells", "Logic ns", "Routing ns"), path)
        verdict = "meets" if timing.met else "misses"
        say(f"{timing.reached_mhz:.1f} MHz {verdict} {timing.wanted_mhz:.0f} MHz ({timing.clock})")
    if not report.fits:
        say(f"{planned.top} does not fit {board}")
    say(", ".join(f"{step.step} {step.seconds:.0f} s" for step in took))
    return 0 if report.ok else 1
