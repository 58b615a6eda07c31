"""Runs a package: CPU stage, NPU (the interpreter, or another), CPU stage. Needs numpy alone."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit_fpga.cpu import run_stage
from edgekit_fpga.errors import InputError
from edgekit_fpga.interpreter import Machine
from edgekit_fpga.package import Package

Array = NDArray[Any]
Int8 = NDArray[np.int8]
Observe = Callable[[str, Array], None]


def run(
    package: Package,
    inputs: Mapping[str, Array],
    *,
    observe: Observe | None = None,
    exact: bool = False,
) -> dict[str, Array]:
    """Run a batch through the package's whole pipeline.

    Args:
        package: the compiled model.
        inputs: by the graph's input names, shape (N, ...) and dtype as the graph says.
        observe: called with name and value (as the graph has it: dtype, shape) of every tensor the
            NPU makes.
        exact: requantize in integers as the hardware does (slower, same result).

    Returns:
        The graph's outputs by name.

    Raises:
        InputError: a missing or unknown input, a wrong shape or dtype, values that are not finite.
    """
    npu, tensors = package.manifest["npu"], package.manifest["tensors"]

    def seen(name: str, value: Array) -> None:
        assert observe is not None
        observe(name, from_stored(value, tensors[name]))

    machine = Machine(
        package.program, package.board.array, package.board.memory.activation_granules, exact
    )
    outputs = tuple(npu["outputs"])
    return run_pipeline(
        package, inputs, lambda stored: machine.run(stored, outputs, seen if observe else None)
    )


def run_pipeline(
    package: Package,
    inputs: Mapping[str, Array],
    npu: Callable[[dict[str, Int8]], Mapping[str, Int8]],
) -> dict[str, Array]:
    """Run a batch: the CPU stage before, what `npu` makes of it, the CPU stage after.

    Args:
        package: the compiled model.
        inputs: as `run`.
        npu: takes the NPU's inputs and gives its outputs, by name, as stored (N, C, H, W).

    Returns:
        The graph's outputs by name.

    Raises:
        InputError: as `run`.
    """
    values = check_inputs(package, inputs)
    run_stage(package.before, values)
    tensors = package.manifest["tensors"]
    stored = {
        name: to_stored(values[name], tensors[name]["shape"], tensors[name]["type"])
        for name in package.manifest["npu"]["inputs"]
    }
    for name, value in npu(stored).items():
        values[name] = from_stored(value, tensors[name])
    run_stage(package.after, values)
    return {name: values[name] for name in package.manifest["outputs"]}


def check_inputs(package: Package, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs as a fresh mapping, checked against the manifest.

    Raises:
        InputError: naming the input and what it should be.
    """
    wanted = {entry["name"]: entry for entry in package.manifest["inputs"]}
    if set(inputs) != set(wanted):
        names = ", ".join(wanted)
        given = ", ".join(inputs) or "nothing"
        raise InputError(f"the model takes {names}; given was {given}", f"name the array {names}")
    batches = set()
    for name, entry in wanted.items():
        array, shape = np.asarray(inputs[name]), tuple(entry["shape"])
        text = f"(N, {', '.join(map(str, shape))})"
        if array.shape[1:] != shape or array.ndim == 0 or len(array) == 0:
            raise InputError(f"input {name} has the shape {array.shape}", f"give {text}")
        if array.dtype != np.dtype(entry["type"]):
            raise InputError(f"input {name} is {array.dtype}", f"give {entry['type']}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"input {name} holds values that are not finite", "clean it first")
        batches.add(len(array))
    if len(batches) > 1:
        raise InputError(f"the inputs have different batches: {sorted(batches)}")
    return {name: np.asarray(array) for name, array in inputs.items()}


def to_stored(value: Array, shape: list[int], kind: str) -> NDArray[np.int8]:
    """A graph's int8 or uint8 tensor as the NPU stores it, (N, C, H, W)."""
    signed = value.view(np.int8) ^ np.int8(-128) if kind == "uint8" else value
    return signed.reshape(len(value), *shape)


def from_stored(value: Array, tensor: Mapping[str, Any]) -> Array:
    """The inverse of `to_stored`, in the graph's own shape."""
    channels = tensor["shape"][0]
    value = np.ascontiguousarray(value[:, :channels])
    if tensor["type"] == "uint8":
        value = (value ^ np.int8(-128)).view(np.uint8)
    return value.reshape(len(value), *tensor["graph_shape"])
