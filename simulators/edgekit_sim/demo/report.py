"""What the demo found, and whether every number is what it must be."""

from dataclasses import dataclass
from typing import Any

# what the net of examples/digits loses at most by quantization, in accuracy
INT8_LOSS_ALLOWED = 0.02


@dataclass(frozen=True)
class Accuracy:
    """Accuracy on the held-back test split, 0 to 1, of the float model and of the int8 one."""

    full: float
    int8: float


@dataclass(frozen=True)
class Fpga:
    """The compiled package held against ONNX Runtime's integer operators.

    Attributes:
        cycles_estimated: clock cycles of one inference.
        compared: values compared, over every layer and test image.
        mismatches: how many of them differ in any bit.
    """

    cycles_estimated: int
    compared: int
    mismatches: int


@dataclass(frozen=True)
class Image:
    """The module image as pushed."""

    digest: str
    platforms: tuple[str, ...]


@dataclass(frozen=True)
class Telemetry:
    """What the devices sent and what arrived.

    Attributes:
        sent: test images handed to the devices, each to give one result.
        buffered: most results that lay on the devices' disks at once during the cut.
        received: different results in the hub.
        lost: sent and not received.
        duplicates: results the hub received again, known by their message id.
    """

    sent: int
    buffered: int
    received: int
    lost: int
    duplicates: int


@dataclass(frozen=True)
class Report:
    """Everything the demo measured."""

    model: str
    accuracy: Accuracy
    fpga: Fpga
    image: Image
    engine: str
    devices: int
    devices_ready: int
    telemetry: Telemetry
    prediction_mismatches: int
    seconds: float

    def failures(self) -> tuple[str, ...]:
        """What is not as it must be, one sentence each; empty when all is well."""
        telemetry = self.telemetry
        rules = (
            (
                self.accuracy.int8 >= self.accuracy.full - INT8_LOSS_ALLOWED,
                f"int8 accuracy {self.accuracy.int8:.4f} is too far below {self.accuracy.full:.4f}",
            ),
            (self.fpga.compared > 0, "the FPGA package was compared with nothing"),
            (self.fpga.mismatches == 0, f"{self.fpga.mismatches} FPGA values differ"),
            (
                self.devices_ready == self.devices,
                f"the rollout reached {self.devices_ready} of {self.devices} devices",
            ),
            (telemetry.sent > 0, "nothing was sent"),
            (telemetry.lost == 0, f"{telemetry.lost} results were lost"),
            (telemetry.buffered > 0, "the cut left nothing to buffer, so it proved nothing"),
            (
                self.prediction_mismatches == 0,
                f"{self.prediction_mismatches} predictions differ from ONNX Runtime in-process",
            ),
        )
        return tuple(sentence for holds, sentence in rules if not holds)

    def as_json(self) -> dict[str, Any]:
        """The object `edgekit demo --json` ends with."""
        telemetry = self.telemetry
        return {
            "ok": not self.failures(),
            "failures": list(self.failures()),
            "model": self.model,
            "accuracy": {"float": self.accuracy.full, "int8": self.accuracy.int8},
            "fpga": {
                "cycles_estimated": self.fpga.cycles_estimated,
                "compared": self.fpga.compared,
                "mismatches": self.fpga.mismatches,
            },
            "image": {"digest": self.image.digest, "platforms": list(self.image.platforms)},
            "engine": self.engine,
            "devices": self.devices,
            "telemetry": {
                "sent": telemetry.sent,
                "buffered": telemetry.buffered,
                "received": telemetry.received,
                "lost": telemetry.lost,
                "duplicates": telemetry.duplicates,
            },
            "prediction_mismatches": self.prediction_mismatches,
            "seconds": round(self.seconds, 1),
        }

    def rows(self) -> list[tuple[str, str]]:
        """The final table: what, and its value."""
        telemetry = self.telemetry
        return [
            ("model", self.model),
            ("accuracy", f"{self.accuracy.full:.2%} float, {self.accuracy.int8:.2%} int8"),
            ("FPGA", f"{self.fpga.cycles_estimated:,} cycles an image (estimated)"),
            (
                "FPGA against ONNX Runtime",
                f"{self.fpga.compared:,} values compared, {self.fpga.mismatches} differ",
            ),
            ("image", self.image.digest),
            ("platforms", ", ".join(self.image.platforms)),
            ("devices", f"{self.devices_ready} of {self.devices} ready, modules as {self.engine}"),
            ("results sent", f"{telemetry.sent:,}"),
            ("buffered during the cut", f"{telemetry.buffered:,}"),
            ("received by the hub", f"{telemetry.received:,}"),
            ("lost", f"{telemetry.lost:,}"),
            ("doubles recognised", f"{telemetry.duplicates:,}"),
            ("predictions that differ", f"{self.prediction_mismatches}"),
            ("time", f"{self.seconds:.0f} s"),
        ]
