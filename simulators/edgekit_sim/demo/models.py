"""The first half of the line: register, quantize, compile for the NPU, build the image, push it."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

import edgekit_fpga
from edgekit.oci.client import RegistryClient
from edgekit.oci.reference import Reference
from edgekit.oci.transfer import push
from edgekit.packager.fpga import package_fpga
from edgekit.packager.image import build_image
from edgekit.packager.plan import plan_image
from edgekit.packager.recipes import PackagedModel
from edgekit.packager.store import Store
from edgekit.quantize import compare, quantize
from edgekit.registry import ModelVersion, Registry
from edgekit_sim.demo.digits import Digits
from edgekit_sim.demo.report import Accuracy, Fpga, Image
from edgekit_sim.demo.watcher import Watcher

BOARD = "ecp5-85f"


def register(registry: Registry, digits: Digits, watcher: Watcher) -> ModelVersion:
    """Register the float model; its inputs and outputs are read from the graph."""
    with watcher.stage("register the model"):
        version = registry.register(
            digits.model, "digits", tags={"example": "digits"}, properties={"data": "UCI digits"}
        )
    watcher.found(f"{version.ref}, {', '.join(map(str, version.inputs))}")
    return version


def quantized(
    registry: Registry, parent: ModelVersion, digits: Digits, folder: Path, watcher: Watcher
) -> tuple[ModelVersion, Accuracy]:
    """Quantize to int8 with the calibration split, judge on the test split, register the result."""
    model = registry.model_bytes(parent.ref)
    with watcher.stage("quantize to int8"):
        with np.load(digits.calibration) as calibration:
            int8 = quantize(model, dict(calibration))
        report = compare(model, int8, {"image": digits.images}, digits.labels)
        path = folder / "digits-int8.onnx"
        path.write_bytes(int8)
        version = registry.register(path, f"{parent.name}-int8", parent=parent.ref)
    assert report.float_accuracy is not None
    assert report.int8_accuracy is not None
    accuracy = Accuracy(report.float_accuracy, report.int8_accuracy)
    watcher.found(f"{version.ref}: {accuracy.full:.2%} float, {accuracy.int8:.2%} int8")
    return version, accuracy


def compiled(registry: Registry, int8: ModelVersion, digits: Digits, watcher: Watcher) -> Fpga:
    """Compile for the NPU, hold every layer against ONNX Runtime, keep the package."""
    model = registry.model_bytes(int8.ref)
    with watcher.stage("compile for the NPU"):
        package, record = package_fpga(registry, int8.ref, BOARD)
    watcher.found(f"{record.cycles:,} cycles an image on {BOARD}")
    with watcher.stage("compare with ONNX Runtime"):
        comparison = edgekit_fpga.compare(package, model, {"image": digits.images})
    watcher.found(f"{comparison.mismatches} of {comparison.compared:,} values differ")
    return Fpga(record.cycles, comparison.compared, comparison.mismatches)


def image(
    registry: Registry, int8: ModelVersion, store: Store, oci_registry: str, watcher: Watcher
) -> tuple[str, Image]:
    """Build the module image for both platforms without Docker and push it.

    Returns:
        The reference by digest that devices pull, and the image.
    """
    model = PackagedModel(
        int8.name,
        int8.version,
        int8.digest,
        registry.model_file(int8.ref),
        tuple(asdict(each) for each in int8.inputs),
        tuple(asdict(each) for each in int8.outputs),
    )
    with watcher.stage("build the image") as advance:

        def seen(_what: str, step: int, _of: int) -> None:
            advance(step)

        plan = plan_image(model, store, progress=seen)
        built = build_image(plan, store, progress=seen)
    reference = Reference.parse(f"{oci_registry}/{int8.name}:{int8.version}")
    with watcher.stage("push the image"), RegistryClient(reference) as client:
        pushed = push(built.blobs, built.root, reference, client)
    platforms = tuple(map(str, built.platforms))
    registry.record_image(
        int8.ref, digest=built.digest, reference=str(reference), platforms=platforms
    )
    watcher.found(f"{built.digest[:19]}, {pushed.bytes_uploaded / 1e6:.0f} MB uploaded")
    return str(reference.at(built.digest)), Image(built.digest, platforms)
