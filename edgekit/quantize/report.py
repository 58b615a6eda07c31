"""What quantization costs and gains: accuracy, agreement, size, latency on this machine."""

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from edgekit.errors import QuantizeError
from edgekit.quantize.calibration import batches
from edgekit.quantize.runtime import Tensors, run, session

RUNS = 200
WARM_UP = 20


@dataclass(frozen=True)
class Latency:
    """Seconds for one call with a batch of one, over many calls: median and 99th percentile."""

    p50: float
    p99: float


@dataclass(frozen=True)
class Report:
    """A float graph and its int8 form, side by side.

    Accuracies and the agreement of the two predictions are shares from 0 to 1; the first two are
    None where no labels were given. Sizes are in bytes, latencies those of this machine.
    """

    images: int
    float_accuracy: float | None
    int8_accuracy: float | None
    agreement: float
    float_size: int
    int8_size: int
    float_latency: Latency
    int8_latency: Latency

    @property
    def faster_here(self) -> bool:
        """Whether int8 answers faster than float on this machine, in the median."""
        return self.int8_latency.p50 < self.float_latency.p50

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data, for JSON."""
        return {**asdict(self), "faster_here": self.faster_here}


def accuracy(model: bytes, inputs: Tensors, labels: npt.NDArray[np.integer[Any]]) -> float:
    """The share, 0 to 1, of inputs whose greatest score is the label's.

    Args:
        model: a graph whose first output holds the scores [N, classes].
        inputs: for each graph input an array [N, ...].
        labels: the right class of each, [N].

    Raises:
        QuantizeError: there is not one label for each answer.
    """
    return _share(predictions(model, inputs), labels)


def predictions(model: bytes, inputs: Tensors) -> npt.NDArray[np.int64]:
    """The class with the greatest score, [N], in the graph's first output [N, classes]."""
    running = session(model)
    first = running.get_outputs()[0].name
    scores = [run(running, batch, [first])[first] for batch in batches(inputs)]
    classes: npt.NDArray[np.int64] = np.concatenate(scores).argmax(axis=-1)
    return classes


def compare(
    floating: bytes,
    int8: bytes,
    inputs: Tensors,
    labels: npt.NDArray[np.integer[Any]] | None = None,
) -> Report:
    """Run both graphs on the same inputs; with labels, measure both accuracies.

    Args:
        floating: the float graph.
        int8: its quantized form, with the same inputs and outputs.
        inputs: for each graph input an array [N, ...].
        labels: the right class of each, [N].

    Raises:
        QuantizeError: there is not one label for each answer.
    """
    expected, found = predictions(floating, inputs), predictions(int8, inputs)
    return Report(
        images=len(expected),
        float_accuracy=None if labels is None else _share(expected, labels),
        int8_accuracy=None if labels is None else _share(found, labels),
        agreement=_share(found, expected),
        float_size=len(floating),
        int8_size=len(int8),
        float_latency=latency(session(floating, threads=1), inputs),
        int8_latency=latency(session(int8, threads=1), inputs),
    )


def latency(running: onnxruntime.InferenceSession, inputs: Tensors) -> Latency:
    """The time of calls with the first of `inputs`, after some to warm up, on this machine."""
    first = {name: value[:1] for name, value in inputs.items()}
    for _ in range(WARM_UP):
        run(running, first)
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run(running, first)
        seconds.append(time.perf_counter() - start)
    p50, p99 = np.percentile(seconds, [50, 99])
    return Latency(float(p50), float(p99))


def _share(found: npt.NDArray[np.integer[Any]], expected: npt.NDArray[np.integer[Any]]) -> float:
    if found.shape != expected.shape:
        raise QuantizeError(
            f"{len(found)} answers of shape {list(found.shape)} but labels of shape "
            f"{list(expected.shape)}"
        )
    return float(np.mean(found == expected))
