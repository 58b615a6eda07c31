"""`edgekit model quantize` and `profile`: what a model costs, and what its int8 form does."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli.output import json_option, print_json, print_table, say
from edgekit.cli.registered import FILE, LABEL, labels, open_registry

if TYPE_CHECKING:
    from edgekit.quantize import LayerError, Recipe, Report
    from edgekit.registry import ModelVersion


@click.command()
@click.argument("ref")
@click.option(
    "--calibration",
    required=True,
    type=FILE,
    help="An .npz with some hundred real inputs: an array [N, ...] for each input of the graph.",
)
@click.option(
    "--test", type=FILE, help="An .npz with inputs and `labels` [N] to measure the accuracy on."
)
@click.option("--name", help="Name to register it under.  [default: NAME-int8]")
@click.option("--tag", "tags", multiple=True, metavar=LABEL, help="Tag the new version.")
@click.option(
    "--method",
    type=click.Choice(["minmax", "percentile", "entropy"]),
    default="minmax",
    show_default=True,
    help="How an activation's range comes from what it took in calibration.",
)
@click.option(
    "--percentile",
    type=click.FloatRange(50, 100, min_open=True),
    default=99.99,
    show_default=True,
    help="Share of the values that --method percentile keeps.",
)
@click.option("--equalize", is_flag=True, help="Bring channels to one range first: for MobileNets.")
@click.option(
    "--correct-bias", is_flag=True, help="Take the mean error of rounded weights from the biases."
)
@click.option("--power-of-two", is_flag=True, help="Only scales that are powers of two.")
@click.option("--layers", "by_layer", is_flag=True, help="Show the error of each layer.")
@json_option
def quantize(
    ref: str,
    calibration: Path,
    test: Path | None,
    name: str | None,
    tags: Sequence[str],
    method: str,
    percentile: float,
    equalize: bool,
    correct_bias: bool,
    power_of_two: bool,
    by_layer: bool,
    as_json: bool,
) -> None:
    """Make an int8 version and measure it.

    The new version computes in integers and is registered with REF as its parent. The report
    compares the two on the --test inputs, or on the calibration inputs where none are given.

    \b
    Examples:
      edgekit model quantize digits --calibration calibration.npz --test test.npz
      edgekit model quantize digits:3 --calibration calibration.npz --name digits-small
      edgekit model quantize mobile --calibration c.npz --equalize --correct-bias --layers
    """
    import tempfile

    from edgekit.quantize import Recipe, compare, layer_errors, load_split
    from edgekit.quantize import quantize as to_int8
    from edgekit.registry import ModelRef

    registry = open_registry()
    source = registry.get(ModelRef.parse(ref))
    wanted_tags = labels(tags)
    floating = registry.model_bytes(source.ref)
    observed, _ = load_split(calibration)
    judged, truth = load_split(test) if test else (observed, None)
    recipe = Recipe(method, percentile, equalize, correct_bias, power_of_two)
    int8 = to_int8(floating, observed, recipe)
    report = compare(floating, int8, judged, truth)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(int8)
        registered = registry.register(
            file,
            name or f"{source.name}-int8",
            tags=wanted_tags,
            properties=_measured(report, recipe),
            parent=source.ref,
        )
    if as_json:
        errors = layer_errors(floating, int8, judged, recipe)
        print_json(
            {
                "model": registered.as_dict(),
                "report": report.as_dict(),
                "layers": [error.as_dict() for error in errors],
            }
        )
        return
    _print_report(source, registered, report, on_test=test is not None)
    if by_layer:
        _print_layers(layer_errors(floating, int8, judged, recipe))


@click.command()
@click.argument("ref")
@click.option(
    "--input",
    "inputs",
    type=FILE,
    help="An .npz with an array for each input, whose first element is used.  [default: random]",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@json_option
def profile(ref: str, inputs: Path | None, threads: int, as_json: bool) -> None:
    """Measure latency and memory on this machine.

    The figures are of ONNX Runtime with a batch of one, and are kept with the version.

    \b
    Examples:
      edgekit model profile digits
      edgekit model profile digits-int8 --input test.npz --threads 2
    """
    from edgekit.quantize import profile as measure
    from edgekit.registry import ModelRef

    registry = open_registry()
    version = registry.get(ModelRef.parse(ref))
    version.check_onnx()
    measured = measure(registry.model_file(version.ref), inputs=inputs, threads=threads)
    registry.record_profile(version.ref, measured.as_dict())
    if as_json:
        print_json({"ref": str(version.ref), **measured.as_dict()})
        return
    for label, text in (
        ("Model", str(version.ref)),
        ("Latency", f"{_micro(measured.p50)} median, {_micro(measured.p99)} 99%"),
        ("Memory", f"{measured.memory / 1e6:,.1f} MB"),
        ("Size", f"{measured.size:,} bytes"),
        ("Machine", f"{measured.machine}; {measured.threads} threads"),
        ("Runtime", f"ONNX Runtime {measured.runtime}"),
    ):
        click.echo(f"{label + ':':<10}{text}")


def _print_layers(errors: "list[LayerError]") -> None:
    print_table(
        "Error of each tensor (signal to error in dB; the rest in steps of int8 and percent)",
        ["Tensor", "Operator", "dB", "Largest", "Cut off"],
        [
            (
                error.tensor,
                error.operator,
                f"{error.sqnr:.1f}",
                f"{error.largest:.1f}",
                f"{error.saturated:.3%}",
            )
            for error in errors
        ],
    )


def _measured(report: "Report", recipe: "Recipe") -> dict[str, str]:
    """What of a report stays with the version; latencies are this machine's and do not."""
    measured = {
        "quantization": "int8",
        "quantization.recipe": recipe.summary,
        "agreement": f"{report.agreement:.6g}",
    }
    if report.int8_accuracy is not None:
        measured["accuracy"] = f"{report.int8_accuracy:.6g}"
    return measured


def _print_report(
    source: "ModelVersion", registered: "ModelVersion", report: "Report", *, on_test: bool
) -> None:
    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.2%}"

    floating, int8 = report.float_latency, report.int8_latency
    click.echo(f"Registered {registered.ref}  {registered.digest}")
    print_table(
        f"On {report.images} {'test' if on_test else 'calibration'} inputs",
        ["", f"{source.ref} (float)", f"{registered.ref} (int8)"],
        [
            ("accuracy", share(report.float_accuracy), share(report.int8_accuracy)),
            ("same answer as float", "", share(report.agreement)),
            ("bytes", f"{report.float_size:,}", f"{report.int8_size:,}"),
            ("latency here, median", _micro(floating.p50), _micro(int8.p50)),
            ("latency here, 99%", _micro(floating.p99), _micro(int8.p99)),
        ],
    )
    if not report.faster_here:
        say(
            "On this machine's processor int8 is not faster than float: use it for its size, "
            "an FPGA, or a processor with int8 instructions."
        )


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} µs"
