"""`edgekit fpga`: compile int8 graphs for the NPU, run them, prove them, look inside."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from edgekit.cli.artefacts import delete_package, list_packages, tag_package
from edgekit.cli.fpga_backend import backend_options, package_file
from edgekit.cli.fpga_packages import pull, push, verify
from edgekit.cli.fpga_serve import serve
from edgekit.cli.output import json_option, phases, print_json, print_table, say
from edgekit.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.registry import ModelRef, Registry
    from edgekit_fpga import Package

PACKAGE = click.Path(dir_okay=False, path_type=Path)


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


for _command in (delete_package, list_packages, pull, push, serve, tag_package, verify):
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
@json_option
def compile_(model: str, board: str, output: Path, integer_averages: bool, as_json: bool) -> None:
    """Compile MODEL into a package, with the proof of its arithmetic.

    MODEL is an int8 ONNX file, or NAME:VERSION of a registered one; the registry then keeps the
    package too, and knows what it was made from.

    \b
    Examples:
      edgekit fpga compile digits-int8:1 -o digits.npu
      edgekit fpga compile digits.int8.onnx --board ice40-up5k -o digits.npu --json
    """
    if named := registered(model):
        from edgekit.packager.fpga import package_fpga

        package, _record = package_fpga(*named, board, integer_averages=integer_averages)
    else:
        from edgekit_fpga import compile_model

        package = compile_model(read_model(model), board, integer_averages=integer_averages)
    package.save(output)
    manifest, array = package.manifest, package.board.array
    total = manifest["cycles"]["total"]
    if as_json:
        print_json(
            {
                "package": str(output),
                "digest": package.digest,
                "board": package.board.name,
                "macs": manifest["macs"],
                "cycles_estimated": total,
                "stages": manifest["stages"],
                "proved": manifest["proof"],
            }
        )
        return
    proof = manifest["proof"]
    busy = 100 * manifest["macs"] / (array.macs * total)
    micros = total / package.board.clock_mhz
    say(f"{output}: {manifest['npu']['layers']} layers for {package.board.name}, {package.digest}")
    say(
        f"{manifest['macs']:,} MACs in {total:,} cycles estimated ({busy:.0f}% of "
        f"{array.reduction_lanes}x{array.output_lanes}), {micros:,.0f} us at "
        f"{package.board.clock_mhz} MHz"
    )
    say(
        f"proved equal to float32: {proof['channels']:,} channels at {proof['thresholds']:,} "
        f"thresholds, {proof['pairs']:,} pairs of adds, {proof['tables']} tables"
    )


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
    if output is not None:
        say(f"wrote {', '.join(outputs)} to {output}")
        return
    for name, value in outputs.items():
        rows = value.reshape(batch, -1)[:10]
        columns = [str(i) for i in range(min(rows.shape[1], 10))]
        shown = [[f"{x:.4g}" for x in row[:10]] for row in rows]
        print_table(f"{name}, the first of {batch}", columns, shown)


@fpga.command("prove")
@click.argument("package", type=PACKAGE)
@click.argument("model")
@click.option("--input", "source", type=PACKAGE, help="Real inputs by name, .npz; else random.")
@click.option("--count", default=64, show_default=True, help="How many random inputs.")
@click.option("--seed", default=0, show_default=True, help="Where the random inputs start.")
@click.option("--rtl", default=0, metavar="N", help="Simulate the first N inputs in RTL, too.")
@json_option
def prove_(
    package: Path, model: str, source: Path | None, count: int, seed: int, rtl: int, as_json: bool
) -> None:
    """Prove PACKAGE again from MODEL, then compare every layer with ONNX Runtime, bit by bit.

    With --rtl N the NPU's Verilog is held against both, layer by layer, as well.

    \b
    Examples:
      edgekit fpga prove digits.npu digits.int8.onnx
      edgekit fpga prove digits.npu digits.int8.onnx --rtl 2
      edgekit fpga prove digits.npu digits.int8.onnx --input test.npz --json
    """
    from edgekit_fpga import compile_model, read_package
    from edgekit_fpga.proving import compare_all

    loaded, data = read_package(package), read_model(model)
    averages = bool(loaded.manifest["integer_averages"])
    again = compile_model(data, loaded.board.name, integer_averages=averages)
    inputs = read_inputs(source, loaded) if source else random_inputs(loaded, count, seed)
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


@fpga.command("bench")
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
    }
    if as_json:
        print_json(data)
        return
    source = "measured in RTL simulation" if rtl else "estimated from the schedule"
    say(f"{macs:,} MACs on {data['array']} in {cycles:,} cycles {source}")
    say(
        f"{100 * data['utilization']:.1f}% of the multipliers, {data['microseconds']:,.0f} us at "
        f"{loaded.board.clock_mhz} MHz"
    )
    say(f"{count} inferences took {seconds:.2f} s here ({data['backend']})")


@fpga.command("profile")
@click.argument("package", type=PACKAGE)
@click.option("--svg", "picture", type=PACKAGE, help="Draw layers and memory over time, too.")
@json_option
def profile(package: Path, picture: Path | None, as_json: bool) -> None:
    """Show where PACKAGE spends its cycles: each layer's cycles, use of the array, and memory.

    \b
    Examples:
      edgekit fpga profile digits.npu
      edgekit fpga profile digits.npu --svg digits.svg
    """
    from edgekit_fpga import read_package
    from edgekit_fpga.profiling import profile as measured

    loaded = read_package(package)
    layers = measured(loaded)
    if picture is not None:
        from edgekit_fpga.timeline import svg

        write_file(picture, lambda file: file.write(svg(loaded).encode()))
    total = sum(layer.cycles for layer in layers)
    macs = sum(layer.macs for layer in layers)
    busy = macs / (loaded.board.array.macs * total)
    if as_json:
        print_json(
            {
                "layers": [vars(layer) for layer in layers],
                "cycles": total,
                "macs": macs,
                "utilization": busy,
            }
        )
        return
    rows = [
        (
            layer.node,
            layer.instruction,
            layer.shape,
            layer.macs,
            layer.cycles,
            f"{100 * layer.utilization:.0f}%",
            layer.weight_bytes,
            layer.activation_bytes,
        )
        for layer in layers
    ]
    columns = ("Node", "Does", "Output", "MACs", "Cycles", "Use", "Weights B", "Live B")
    print_table("", columns, rows)
    say(f"{total:,} cycles estimated, {100 * busy:.1f}% of the array's multipliers")


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
    they are first called, which takes a minute. A whole ecp5-85f takes about a quarter of an hour.

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


def registered(model: str) -> "tuple[Registry, ModelRef] | None":
    """The registry and the reference that `model` is; None where it names a file.

    Raises:
        WorkspaceError: it is a reference, and there is no workspace here.
    """
    if Path(model).exists() or "/" in model or model.endswith(".onnx"):
        return None
    from edgekit.registry import ModelRef, Registry
    from edgekit.workspace import Workspace

    return Registry.open(Workspace.find()), ModelRef.parse(model)


def read_model(model: str) -> bytes:
    """The bytes of the model a command names: a path, or NAME:VERSION in the registry.

    Raises:
        ModelError: no such file.
        NotFound: no such version.
    """
    if named := registered(model):
        registry, ref = named
        return registry.model_bytes(ref)
    try:
        return Path(model).read_bytes()
    except OSError as error:
        raise ModelError(
            f"cannot read {model}: {error.strerror}", "name an int8 .onnx file"
        ) from error


def read_inputs(path: Path, package: "Package") -> "dict[str, NDArray[Any]]":
    """The arrays of an .npz file that the package takes.

    Raises:
        ModelError: no such file, or no .npz.
    """
    import zipfile

    import numpy as np

    wanted = {entry["name"] for entry in package.manifest["inputs"]}
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if name in wanted}
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no .npz file"
        raise ModelError(f"cannot read {path}: {reason}", "save inputs with numpy.savez") from error


def write_outputs(path: Path, outputs: "Mapping[str, NDArray[Any]]") -> None:
    """Write arrays by name as .npz.

    Raises:
        ModelError: the file cannot be written.
    """
    import numpy as np

    # the keyword names are the model's outputs
    write_file(path, lambda file: np.savez(file, **dict(outputs)))  # type: ignore[arg-type]


def write_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file whole or not at all: a temporary one, flushed, then renamed.

    Raises:
        ModelError: the file cannot be written.
    """
    import os
    import tempfile

    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}") from error


def random_inputs(package: "Package", count: int, seed: int) -> "dict[str, NDArray[Any]]":
    """Inputs of the right shapes: over the whole range of what the first quantization can hold."""
    import numpy as np

    random: np.random.Generator = np.random.default_rng(seed)
    reach = {
        op.inputs[0]: op.attributes["scale"] * 160
        for op in package.before
        if "scale" in op.attributes
    }
    widest = max(reach.values(), default=1.0)
    made: dict[str, NDArray[Any]] = {}
    for entry in package.manifest["inputs"]:
        shape, kind = (count, *entry["shape"]), np.dtype(entry["type"])
        if kind.kind == "f":
            made[entry["name"]] = random.uniform(-widest, widest, shape).astype(kind)
        else:
            limits = np.iinfo(kind)
            made[entry["name"]] = random.integers(limits.min, limits.max + 1, shape, dtype=kind)
    return made
