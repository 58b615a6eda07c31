"""`edgekit model`: register, list, quantize and delete models."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgekit.cli.output import json_option, print_json, print_table, say

if TYPE_CHECKING:
    from edgekit.quantize import Report
    from edgekit.registry import ModelVersion, Registry

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_LABEL = "KEY=VALUE"


@click.group()
def model() -> None:
    """Register, list, quantize and delete models.

    A model is a name with versions, counted from 1, that never change. Where a command takes a
    REF, write NAME:VERSION, or NAME alone for the newest version.

    \b
    Examples:
      edgekit model register digits.onnx --name digits --tag data=uci
      edgekit model list --latest
      edgekit model quantize digits --calibration calibration.npz --test test.npz
      edgekit model download digits-int8 -o digits-int8.onnx
    """


@model.command()
@click.argument("path", type=_FILE)
@click.option("--name", required=True, help="Name of the model; a new one begins at version 1.")
@click.option("--tag", "tags", multiple=True, metavar=_LABEL, help="Can be changed later.")
@click.option("--property", "properties", multiple=True, metavar=_LABEL, help="Cannot be changed.")
@click.option("--framework", default="onnx", show_default=True, help="What the file is for.")
@json_option
def register(
    path: Path,
    name: str,
    tags: Sequence[str],
    properties: Sequence[str],
    framework: str,
    as_json: bool,
) -> None:
    """Store the model file PATH as the next version of a name.

    An ONNX file is checked, and its inputs and outputs are read; a file of another framework is
    stored as it is.

    \b
    Examples:
      edgekit model register digits.onnx --name digits
      edgekit model register digits.onnx --name digits --tag stage=trial --property data=uci
    """
    registered = _registry(create=True).register(
        path, name, tags=_labels(tags), properties=_labels(properties), framework=framework
    )
    if as_json:
        print_json(registered.as_dict())
    else:
        click.echo(f"Registered {registered.ref}  {registered.digest}  {registered.size:,} bytes")


@model.command(name="list")
@click.option("--name", help="Only versions of this model.")
@click.option("--tag", "tags", multiple=True, metavar="KEY[=VALUE]", help="Only with this tag.")
@click.option(
    "--property",
    "properties",
    multiple=True,
    metavar="KEY[=VALUE]",
    help="Only with this property.",
)
@click.option("--framework", help="Only of this framework.")
@click.option("--latest", is_flag=True, help="Only the newest version of each model.")
@json_option
def list_models(
    name: str | None,
    tags: Sequence[str],
    properties: Sequence[str],
    framework: str | None,
    latest: bool,
    as_json: bool,
) -> None:
    """List what is registered.

    \b
    Examples:
      edgekit model list
      edgekit model list --latest --tag stage=production
      edgekit model list --name digits --json
    """
    from edgekit.registry import Query

    found = _registry().models(
        Query(
            name=name,
            tags=_wanted(tags),
            properties=_wanted(properties),
            framework=framework,
            latest=latest,
        )
    )
    if as_json:
        print_json({"models": [version.as_dict() for version in found]})
    elif not found:
        say("No models. Register one: edgekit model register PATH --name NAME")
    else:
        print_table(
            "",
            ["Model", "Bytes", "Digest", "Made from", "Tags", "Registered"],
            [
                (
                    str(version.ref),
                    f"{version.size:,}",
                    version.digest.removeprefix("sha256:")[:12],
                    str(version.parent or ""),
                    _joined(version.tags),
                    version.created.astimezone().strftime("%Y-%m-%d %H:%M"),
                )
                for version in found
            ],
        )


@model.command()
@click.argument("ref")
@json_option
def show(ref: str, as_json: bool) -> None:
    """Show all that is known of a version.

    \b
    Examples:
      edgekit model show digits
      edgekit model show digits:1 --json
    """
    from edgekit.registry import ModelRef

    registry = _registry()
    version = registry.get(ModelRef.parse(ref))
    images, graphs = registry.images(model=version.ref), registry.graphs(model=version.ref)
    if as_json:
        print_json(
            {
                **version.as_dict(),
                "images": [image.as_dict() for image in images],
                "graphs": [graph.as_dict() for graph in graphs],
            }
        )
        return
    lines = [
        ("Model", str(version.ref)),
        ("Digest", version.digest),
        ("Size", f"{version.size:,} bytes"),
        ("Framework", version.framework),
        *(("Input", str(spec)) for spec in version.inputs),
        *(("Output", str(spec)) for spec in version.outputs),
        ("Tags", _joined(version.tags) or "-"),
        ("Properties", _joined(version.properties) or "-"),
        ("Made from", str(version.parent or "-")),
        ("Registered", version.created.astimezone().isoformat(" ", "seconds")),
        *(("Image", f"{image.reference} ({', '.join(image.platforms)})") for image in images),
        *(("FPGA package", f"{graph.digest} for {graph.board}") for graph in graphs),
    ]
    for label, text in lines:
        click.echo(f"{label + ':':<14}{text}")


@model.command()
@click.argument("ref")
@click.argument("tags", nargs=-1, metavar="KEY=VALUE...")
@click.option("--remove", multiple=True, metavar="KEY", help="Remove this tag.")
@json_option
def tag(ref: str, tags: Sequence[str], remove: Sequence[str], as_json: bool) -> None:
    """Set and remove tags of a version.

    \b
    Examples:
      edgekit model tag digits:3 stage=production
      edgekit model tag digits:3 --remove stage
    """
    from edgekit.registry import ModelRef

    if not tags and not remove:
        raise click.UsageError("Name a tag to set (KEY=VALUE) or to --remove.")
    changes: dict[str, str | None] = {**_labels(tags), **dict.fromkeys(remove)}
    changed = _registry().tag(ModelRef.parse(ref), changes)
    if as_json:
        print_json(changed.as_dict())
    else:
        click.echo(f"{changed.ref}  {_joined(changed.tags) or 'no tags'}")


@model.command()
@click.argument("ref")
@click.option(
    "--calibration",
    required=True,
    type=_FILE,
    help="An .npz with some hundred real inputs: an array [N, ...] for each input of the graph.",
)
@click.option(
    "--test", type=_FILE, help="An .npz with inputs and `labels` [N] to measure the accuracy on."
)
@click.option("--name", help="Name to register it under.  [default: NAME-int8]")
@click.option("--tag", "tags", multiple=True, metavar=_LABEL, help="Tag the new version.")
@json_option
def quantize(
    ref: str,
    calibration: Path,
    test: Path | None,
    name: str | None,
    tags: Sequence[str],
    as_json: bool,
) -> None:
    """Make an int8 version and measure it.

    The new version computes in integers and is registered with REF as its parent. The report
    compares the two on the --test inputs, or on the calibration inputs where none are given.

    \b
    Examples:
      edgekit model quantize digits --calibration calibration.npz --test test.npz
      edgekit model quantize digits:3 --calibration calibration.npz --name digits-small
    """
    import tempfile

    from edgekit.quantize import compare, load_split
    from edgekit.quantize import quantize as to_int8
    from edgekit.registry import ModelRef

    registry = _registry()
    source = registry.get(ModelRef.parse(ref))
    wanted_tags = _labels(tags)
    floating = registry.model_file(source.ref).read_bytes()
    observed, _ = load_split(calibration)
    judged, labels = load_split(test) if test else (observed, None)
    int8 = to_int8(floating, observed)
    report = compare(floating, int8, judged, labels)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(int8)
        registered = registry.register(
            file,
            name or f"{source.name}-int8",
            tags=wanted_tags,
            properties=_measured(report),
            parent=source.ref,
        )
    if as_json:
        print_json({"model": registered.as_dict(), "report": report.as_dict()})
    else:
        _print_report(source, registered, report, on_test=test is not None)


@model.command()
@click.argument("ref")
@json_option
def delete(ref: str, as_json: bool) -> None:
    """Delete a version that nothing is made from.

    It is refused while an image, an FPGA package or another version is; the message names them.

    \b
    Examples:
      edgekit model delete digits:3
    """
    from edgekit.registry import ModelRef

    gone = _registry().delete(ModelRef.parse(ref))
    if as_json:
        print_json({"deleted": str(gone.ref)})
    else:
        click.echo(f"Deleted {gone.ref}")


@model.command()
@click.argument("ref")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="File or folder to write to.  [default: NAME-VERSION.onnx]",
)
@json_option
def download(ref: str, output: Path | None, as_json: bool) -> None:
    """Copy a version's file out of the registry, verified.

    \b
    Examples:
      edgekit model download digits -o digits.onnx
      edgekit model download digits:1 -o models/
    """
    from edgekit.registry import ModelRef

    registry = _registry()
    version = registry.get(ModelRef.parse(ref))
    target = output or Path()
    if target.is_dir():
        target = target / f"{version.name}-{version.version}.{version.framework}"
    registry.copy_model(version.ref, target)
    if as_json:
        print_json({"ref": str(version.ref), "path": str(target), "digest": version.digest})
    else:
        click.echo(f"Wrote {target}  {version.digest}")


def _registry(*, create: bool = False) -> "Registry":
    from edgekit.registry import Registry
    from edgekit.workspace import Workspace

    workspace = Workspace.find_or_create(announce=say) if create else Workspace.find()
    return Registry.open(workspace)


def _labels(texts: Sequence[str]) -> dict[str, str]:
    labels = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE")
        labels[key] = value
    return labels


def _wanted(texts: Sequence[str]) -> dict[str, str | None]:
    pairs = (text.partition("=") for text in texts)
    return {key: value if equals else None for key, equals, value in pairs}


def _joined(labels: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in labels.items())


def _measured(report: "Report") -> dict[str, str]:
    """What of a report stays with the version; latencies are this machine's and do not."""
    measured = {"quantization": "int8", "agreement": f"{report.agreement:.6g}"}
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
