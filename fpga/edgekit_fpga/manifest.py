"""Checks a package's manifest before anything believes it: whoever wrote it may lie.

First that every key has a value of its kind, then that what the keys say of each other, of the
program and of the board is true.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from edgekit_fpga import isa
from edgekit_fpga.boards import Board
from edgekit_fpga.cpu import CpuOp, Kind
from edgekit_fpga.cycles import program_cycles
from edgekit_fpga.errors import PackageError
from edgekit_fpga.program import Program

# far more than any part has, far less than hurts the machine that reads the package
MOST_ACTIVATION_BYTES = 1 << 26
MOST_WEIGHT_BYTES = 1 << 28
MOST_INSTRUCTIONS = 1 << 16
MOST_CYCLES = 1 << 32

COUNT = "a whole number from 0 on"
# key -> kind of value: a type, COUNT, [kind] for a list, {str: kind} for a mapping of any keys
_OPERATION = {"operator": str, "inputs": [str], "output": str, "attributes": {str: object}}
SCHEMA: dict[str, Any] = {
    "format": COUNT,
    "isa_version": COUNT,
    "model": str,
    "macs": COUNT,
    "board": {str: object},
    "stages": [{str: object}],
    "inputs": [{"name": str, "type": str, "shape": [COUNT]}],
    "outputs": [str],
    "before": [_OPERATION],
    "after": [_OPERATION],
    "integer_averages": [str],
    "tensors": {
        str: {
            "shape": [COUNT],
            "graph_shape": [COUNT],
            "scale": float,
            "zero_point": int,
            "type": str,
        }
    },
    "npu": {
        "inputs": [str],
        "outputs": [str],
        "layers": COUNT,
        "resident": COUNT,
        "placements": {str: {str: object}},
        "lifetimes": {str: [int]},
        "traces": [{"node": str, "own": str, "table": str, "add": str, "pool": str, "macs": COUNT}],
    },
    "files": {str: str},
    "proof": {str: COUNT},
    "cycles": {"total": COUNT, "instructions": [COUNT]},
}


def check_kinds(manifest: Any) -> None:
    """See that every key is there, and no other, with a value of its kind.

    Raises:
        PackageError: naming the first that is not.
    """
    for problem in _misfits(manifest, SCHEMA, "manifest"):
        raise PackageError(problem)


def _misfits(value: Any, kind: Any, where: str) -> Iterator[str]:
    if kind is object:
        return
    if kind is COUNT:
        if type(value) is not int or value < 0:
            yield f"{where} is not {COUNT}"
    elif isinstance(kind, type):
        if type(value) is not kind:
            yield f"{where} is no {kind.__name__}"
    elif isinstance(kind, list):
        if not isinstance(value, list):
            yield f"{where} is no list"
            return
        for index, item in enumerate(value):
            yield from _misfits(item, kind[0], f"{where}[{index}]")
    elif not isinstance(value, dict):
        yield f"{where} is no mapping"
    elif str in kind:
        for key, item in value.items():
            yield from _misfits(item, kind[str], f"{where}.{key}")
    else:
        if missing := sorted(kind.keys() ^ value.keys()):
            yield f"{where} lacks or should not have {', '.join(missing)}"
            return
        for key, inner in kind.items():
            yield from _misfits(value[key], inner, f"{where}.{key}")


def check_board(board: Board) -> None:
    """See that a board has no more memory than any part could have.

    Raises:
        PackageError: naming what is too large.
    """
    array, memory = board.array, board.memory
    activations = memory.activation_granules * array.banks * array.output_lanes
    for what, size, most in (
        ("activation memory", activations, MOST_ACTIVATION_BYTES),
        ("weight memory", memory.weight_words * array.word_bytes, MOST_WEIGHT_BYTES),
        ("patch buffer", array.patch_bytes, MOST_ACTIVATION_BYTES),
        ("instruction memory", memory.instructions, MOST_INSTRUCTIONS),
    ):
        if size > most:
            raise PackageError(f"its board has {size:,} of {what}, at most {most:,} are believed")


def check_manifest(
    manifest: Mapping[str, Any],
    board: Board,
    program: Program,
    before: tuple[CpuOp, ...],
    after: tuple[CpuOp, ...],
) -> None:
    """Hold the manifest against the program and itself.

    Raises:
        PackageError: naming what is not so.
    """
    _check_cycles(manifest, board, program)
    _check_pipeline(manifest, before, after)
    _check_tensors(manifest, program)
    _check_traces(manifest, board, program)


def _check_cycles(manifest: Mapping[str, Any], board: Board, program: Program) -> None:
    estimate = program_cycles(program.instructions, board)
    if manifest["cycles"] != {"total": sum(estimate), "instructions": estimate}:
        raise PackageError("its cycles are not those of its program")
    if not 0 < sum(estimate) <= MOST_CYCLES:
        raise PackageError(f"its program would run for {sum(estimate):,} cycles")


def _check_pipeline(
    manifest: Mapping[str, Any], before: tuple[CpuOp, ...], after: tuple[CpuOp, ...]
) -> None:
    """Every tensor a stage takes is made by one before it, with the shape and type it needs."""
    npu, tensors = manifest["npu"], manifest["tensors"]
    known = {
        entry["name"]: Kind(_sizes(entry["shape"]), entry["type"]) for entry in manifest["inputs"]
    }
    for name in (*npu["inputs"], *npu["outputs"]):
        if name not in tensors:
            raise PackageError(f"tensor {name} is not described")
    _follow(before, known)
    for name in npu["inputs"]:
        if known.get(name) != _graph_kind(tensors[name]):
            raise PackageError(f"nothing makes the NPU's input {name} as it is described")
    if not npu["inputs"]:
        raise PackageError("the NPU has no inputs")
    known |= {name: _graph_kind(tensors[name]) for name in npu["outputs"]}
    _follow(after, known)
    if not manifest["outputs"] or not known.keys() >= set(manifest["outputs"]):
        raise PackageError("nothing makes the package's outputs")


def _follow(operations: tuple[CpuOp, ...], known: dict[str, Kind]) -> None:
    """Enter what each operation makes of what is known."""
    for operation in operations:
        source = operation.inputs[0]
        if source not in known:
            raise PackageError(f"nothing makes {source}")
        known[operation.output] = operation.kind(known[source])


def _check_tensors(manifest: Mapping[str, Any], program: Program) -> None:
    """Every tensor has a shape, a type, and where it lies in memory, the place that fits it."""
    npu = manifest["npu"]
    for name, tensor in manifest["tensors"].items():
        shape, graph_shape = _sizes(tensor["shape"]), _sizes(tensor["graph_shape"])
        if len(shape) != 3:
            raise PackageError(f"tensor {name} has the shape {shape}, not (C, H, W)")
        if tensor["type"] not in ("int8", "uint8") or math.prod(shape) != math.prod(graph_shape):
            raise PackageError(f"tensor {name} has no shape or type that fits")
        place = program.placements.get(name)
        if place and shape != (place.channels, place.height, place.width):
            raise PackageError(f"tensor {name} is not where its shape says")
    for name in (*npu["inputs"], *npu["outputs"]):
        if name not in program.placements:
            raise PackageError(f"tensor {name} lies nowhere")
    for name, span in npu["lifetimes"].items():
        if name not in program.placements or len(span) != 2:
            raise PackageError(f"the lifetime of {name} is none")
        if not -1 <= span[0] <= span[1] <= npu["layers"]:
            raise PackageError(f"tensor {name} lives from layer {span[0]} to {span[1]}")


def _check_traces(manifest: Mapping[str, Any], board: Board, program: Program) -> None:
    """What an instruction is said to make has the shape it makes."""
    layers = [step for step in program.instructions if isinstance(step, isa.Layer)]
    named = 0
    for layer, trace in zip(layers, program.traces, strict=True):
        plane = layer.out_height, layer.out_width
        room = layer.out_granules * board.array.output_lanes
        kinds = {"own": plane, "table": plane, "add": plane, "pool": (1, 1)}
        named += any(getattr(trace, kind) for kind in kinds)
        for kind, size in kinds.items():
            name = getattr(trace, kind)
            if name and name not in manifest["tensors"]:
                raise PackageError(f"tensor {name} is not described")
            if not name or name in program.placements:
                continue
            channels, *held = manifest["tensors"][name]["shape"]
            if tuple(held) != size or channels > room:
                raise PackageError(f"{trace.node} does not make {name} as it is described")
        if (trace.table and not layer.table) or (trace.add and not layer.add):
            raise PackageError(f"{trace.node} makes nothing by a table or an add")
    if named != manifest["npu"]["layers"]:
        raise PackageError(f"{manifest['npu']['layers']} layers, {named} of them are made")
    if manifest["macs"] != sum(trace.macs for trace in program.traces):
        raise PackageError("its macs are not those of its layers")


def _graph_kind(tensor: Mapping[str, Any]) -> Kind:
    return Kind(_sizes(tensor["graph_shape"]), tensor["type"])


def _sizes(shape: list[int]) -> tuple[int, ...]:
    if any(size < 1 or size >= 1 << 24 for size in shape):
        raise PackageError(f"{shape} is no shape")
    return tuple(shape)
