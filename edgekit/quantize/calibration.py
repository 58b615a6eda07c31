"""The range of every activation, observed while the float graph runs on real inputs."""

import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgekit.errors import QuantizeError
from edgekit.quantize.histogram import Histogram
from edgekit.quantize.runtime import Tensors, run, session

BATCH = 32
METHODS = ("minmax", "percentile", "entropy")

Ranges = dict[str, tuple[float, float]]


def observe(
    model: onnx.ModelProto,
    calibration: Tensors,
    *,
    method: str = "minmax",
    percentile: float = 99.99,
) -> Ranges:
    """The range each float tensor of the graph needs.

    Args:
        model: a float graph.
        calibration: for each graph input an array [N, ...] of real inputs.
        method: one of `METHODS`: `minmax` keeps every value, `percentile` the given share of them,
            `entropy` chooses the limits that lose least information.
        percentile: in percent, for that method.

    Raises:
        QuantizeError: the inputs are not the graph's, are empty, or make it yield NaN or infinity.
    """
    check_inputs(model, calibration)
    ranges: Ranges = {}
    for values in _activations(model, calibration):
        for name, value in values.items():
            low, high = float(value.min()), float(value.max())
            if not (math.isfinite(low) and math.isfinite(high)):
                raise QuantizeError(
                    f"tensor {name} becomes NaN or infinite on the calibration inputs",
                    hint="check the calibration data and the float model",
                )
            least, greatest = ranges.get(name, (low, high))
            ranges[name] = min(least, low), max(greatest, high)
    if method != "minmax":
        ranges |= _narrowed(model, calibration, ranges, method, percentile)
    return ranges


def _activations(
    model: onnx.ModelProto, calibration: Tensors
) -> Iterator[dict[str, npt.NDArray[np.generic]]]:
    """Every float tensor but the constants, for one batch after the other."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    constants = {initializer.name for initializer in model.graph.initializer}
    inner = [name for node in model.graph.node for name in node.output if name]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    running = session(watched.SerializeToString(), optimize=False)
    for batch in batches(calibration):
        yield {
            name: value
            for name, value in {**batch, **run(running, batch)}.items()
            if name not in constants and np.issubdtype(value.dtype, np.floating) and value.size
        }


def _narrowed(
    model: onnx.ModelProto, calibration: Tensors, seen: Ranges, method: str, percentile: float
) -> Ranges:
    """The ranges that histograms of a second run suggest."""
    histograms = {name: Histogram(*limits) for name, limits in seen.items()}
    for values in _activations(model, calibration):
        for name, value in values.items():
            histograms[name].add(value)
    return {
        name: histogram.entropy() if method == "entropy" else histogram.percentile(percentile)
        for name, histogram in histograms.items()
        if histogram.low < histogram.high
    }


def load_split(
    path: Path,
) -> tuple[dict[str, npt.NDArray[np.generic]], npt.NDArray[np.integer[Any]] | None]:
    """The inputs in an .npz file by name, and its `labels` where it has some.

    Nothing in the file is executed.

    Raises:
        QuantizeError: it is no such file, holds Python objects, or labels that are no integers.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise QuantizeError(
            f"{path} is no .npz file with plain arrays",
            hint="write it with numpy.savez_compressed(file, name=array)",
        ) from error
    labels = arrays.pop("labels", None)
    if labels is not None and not np.issubdtype(labels.dtype, np.integer):
        raise QuantizeError(f"the labels in {path} are {labels.dtype}, not integers")
    return arrays, labels


def batches(tensors: Tensors, size: int = BATCH) -> list[dict[str, npt.NDArray[np.generic]]]:
    """The tensors cut along their first axis into pieces of at most `size`."""
    count = len(next(iter(tensors.values())))
    return [
        {name: value[start : start + size] for name, value in tensors.items()}
        for start in range(0, count, size)
    ]


def check_inputs(model: onnx.ModelProto, tensors: Tensors) -> None:
    """Hold the tensors against the graph's inputs: names, dtypes, shapes, one count for all.

    Raises:
        QuantizeError: they differ; says where.
    """
    constants = {initializer.name for initializer in model.graph.initializer}
    inputs = {value.name: value for value in model.graph.input if value.name not in constants}
    if set(tensors) != set(inputs):
        raise QuantizeError(
            f"the arrays are named {_names(tensors)}, the model's inputs {_names(inputs)}",
            hint="save one array for each input: numpy.savez(file, "
            + ", ".join(f"{name}=..." for name in inputs)
            + ")",
        )
    counts = {len(value) if value.ndim else 0 for value in tensors.values()}
    if len(counts) != 1 or counts == {0}:
        raise QuantizeError(
            "the arrays need one and the same length, at least 1, on the first axis"
        )
    for name, value in tensors.items():
        kind = inputs[name].type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        shape = [dim.dim_value or None for dim in kind.shape.dim]
        fits = len(shape) == value.ndim and all(
            want in (None, have) for want, have in zip(shape[1:], value.shape[1:], strict=True)
        )
        if value.dtype != dtype or not fits:
            wanted = ", ".join("?" if size is None else str(size) for size in shape)
            raise QuantizeError(
                f"array {name} is {value.dtype} {list(value.shape)}, the model takes {dtype} "
                f"[{wanted}]"
            )


def _names(mapping: Mapping[str, object]) -> str:
    return ", ".join(sorted(mapping)) or "nothing"
