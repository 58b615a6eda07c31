"""Train the digits net from scratch and write everything this folder holds.

The data are scikit-learn's `load_digits`: 1797 scans of handwritten digits from the UCI archive,
8x8 pixels with values 0 to 16. Run it from the repository's root, in an environment of its own
(README.md says which):

    PYTHONPATH=. python examples/digits/train.py

It writes `digits.onnx`, `test.npz`, `calibration.npz` and `accuracy.json` beside itself. The seed
fixes the split, the initial weights and the order of the images.
"""

import copy
import io
import json
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.functional import cross_entropy, pad
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgekit.quantize import accuracy, quantize

SEED = 8
EPOCHS = 60
BATCH = 32
TEST_IMAGES = 450
CALIBRATION_IMAGES = 200
WHITE = 16.0  # the largest pixel value
OPSET = 18

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class Split(NamedTuple):
    """Images float32 [N, 1, 8, 8] with values 0 to 16, and their labels int64 [N]."""

    image: Images
    labels: Labels


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch normalisation; one convolution once it is exported."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        )


class DigitsNet(nn.Module):
    """Every kind of layer small vision nets are made of, once: 40 thousand parameters.

    A convolution, a depthwise-separable one, max pooling, a residual block, global average pooling
    and a dense layer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(1, 32, 3)
        self.depthwise = ConvNorm(32, 32, 3, groups=32)
        self.pointwise = ConvNorm(32, 64, 1)
        self.pool = nn.MaxPool2d(2)
        self.squeeze = ConvNorm(64, 32, 3)
        self.expand = ConvNorm(32, 64, 3)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.dense = nn.Linear(64, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits float32 [N, 10] of images float32 [N, 1, 8, 8] with values 0 to 1."""
        x = self.stem(image).relu()
        x = self.depthwise(x).relu()
        x = self.pool(self.pointwise(x).relu())
        x = (x + self.expand(self.squeeze(x).relu())).relu()
        return self.dense(self.dropout(self.average(x).flatten(1)))


def load_splits() -> tuple[Split, Split]:
    """The training and the test split, each class in the same share in both."""
    digits = load_digits()
    image = digits.images.astype(np.float32)[:, np.newaxis]
    labels = digits.target.astype(np.int64)
    train_image, test_image, train_labels, test_labels = train_test_split(
        image, labels, test_size=TEST_IMAGES, random_state=SEED, stratify=labels
    )
    return Split(train_image, train_labels), Split(test_image, test_labels)


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Each image float32 [N, 1, 8, 8] moved by up to a pixel in each direction, black moving in."""
    framed = pad(images, (1, 1, 1, 1))
    moves = torch.randint(0, 3, (len(images), 2)).tolist()
    return torch.stack([framed[i, :, y : y + 8, x : x + 8] for i, (y, x) in enumerate(moves)])


def train(split: Split) -> DigitsNet:
    """A net trained on `split`, in evaluation mode."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    net = DigitsNet()
    image, labels = torch.from_numpy(split.image) / WHITE, torch.from_numpy(split.labels)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.02)
    steps = EPOCHS * -(-len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        total = 0.0
        for chosen in torch.randperm(len(labels)).split(BATCH):
            loss = cross_entropy(net(shifted(image[chosen])), labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        print(f"epoch {epoch + 1:2d} of {EPOCHS}: loss {total / len(labels):.4f}", end="\r")
    print()
    return net.eval()


def folded(net: DigitsNet) -> DigitsNet:
    """The same function of raw pixels, without batch normalisation and without normalisation.

    Each batch normalisation goes into the convolution before it, and the division by the largest
    pixel value into the first one, whose padding of zeros it leaves as it is.
    """
    net = copy.deepcopy(net)
    for name, layer in net.named_children():
        if isinstance(layer, ConvNorm):
            conv, norm = layer
            setattr(net, name, fuse_conv_bn_eval(conv, norm))
    net.stem.weight.data /= WHITE
    return net


def export(net: DigitsNet) -> bytes:
    """The net as ONNX: `image` float32 [N, 1, 8, 8] with values 0 to 16 to `logits` [N, 10].

    PyTorch's older exporter, deprecated as it is, writes the pooling as GlobalAveragePool, which
    has an integer form in every runtime; the newer one writes ReduceMean and Reshape.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            folded(net),
            (torch.zeros(1, 1, 8, 8),),
            buffer,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    model.graph.name = "digits"
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def main() -> None:
    """Train, export, quantize, measure, write."""
    folder = Path(__file__).resolve().parent
    training, test = load_splits()
    net = train(training)
    model = export(net)
    rng = np.random.default_rng(SEED)
    calibration = training.image[rng.permutation(len(training.image))[:CALIBRATION_IMAGES]]
    int8 = quantize(model, {"image": calibration})

    (folder / "digits.onnx").write_bytes(model)
    np.savez_compressed(folder / "test.npz", image=test.image, labels=test.labels)
    np.savez_compressed(folder / "calibration.npz", image=calibration)
    report = {
        "float": accuracy(model, {"image": test.image}, test.labels),
        "int8": accuracy(int8, {"image": test.image}, test.labels),
        "test_images": len(test.labels),
        "training_images": len(training.labels),
        "calibration_images": len(calibration),
        "parameters": sum(parameter.numel() for parameter in folded(net).parameters()),
        "seed": SEED,
    }
    (folder / "accuracy.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
