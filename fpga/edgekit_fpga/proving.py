"""Interpreter, RTL and ONNX Runtime on the same inputs, each held against the others."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from edgekit_fpga import simulate
from edgekit_fpga.comparing import Comparison, compare, held_against, interpreted
from edgekit_fpga.package import Package
from edgekit_fpga.witness import witness


def compare_all(
    package: Package, model: bytes, inputs: Mapping[str, NDArray[Any]], *, rtl: int = 0
) -> dict[str, Comparison]:
    """Compare every layer's integers, bit by bit.

    Args:
        package: the compiled model.
        model: the ONNX file it was made from.
        inputs: by the graph's input names, shape (N, ...).
        rtl: how many of the inputs go through the RTL as well.

    Returns:
        For each pair of interpreter, rtl and onnxruntime, "ONE-OTHER": what was compared.

    Raises:
        PackageError: the package was not made from this model.
        GraphError: ONNX Runtime cannot run the model.
        InputError: as `run`.
        SimulationError: the simulator cannot be built, or a run did not end.
    """
    pairs = {"interpreter-onnxruntime": compare(package, model, inputs)}
    if rtl:
        first = {name: value[:rtl] for name, value in inputs.items()}
        made = simulate.observed(package, first)
        integers = interpreted(package, first, exact=True)
        reference = witness(package, model, first, list(made))
        pairs["interpreter-rtl"] = held_against(
            {name: integers[name] for name in made}, made, package
        )
        pairs["rtl-onnxruntime"] = held_against(reference, made, package)
    return pairs
