"""The digits example: its model, and the splits it is calibrated and judged on."""

from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# examples/digits of the checkout, carried inside the package
DATA = files("edgekit_sim") / "demo" / "digits"


@dataclass(frozen=True)
class Digits:
    """The example's files, read.

    Attributes:
        model: path of the float ONNX model; input `image` float32 [N, 1, 8, 8], output `logits`
            float32 [N, 10].
        calibration: path of `calibration.npz`, key `image`.
        images: float32 [N, 1, 8, 8], the held-back test split, values 0 to 16.
        labels: int64 [N], 0 to 9.
    """

    model: Path
    calibration: Path
    images: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise ValueError(f"{len(self.images)} images but {len(self.labels)} labels")


def load() -> Digits:
    """Read the example as it was installed."""
    with as_file(DATA) as folder:
        with np.load(folder / "test.npz") as test:
            images, labels = test["image"], test["labels"]
        return Digits(folder / "digits.onnx", folder / "calibration.npz", images, labels)
