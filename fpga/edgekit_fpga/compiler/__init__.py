"""From an int8 ONNX graph to a package: a list of named passes over one intermediate form."""

import hashlib
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from edgekit_fpga import isa
from edgekit_fpga.boards import Board, load_board
from edgekit_fpga.compiler import ir, passes
from edgekit_fpga.compiler.allocate import allocate, lifetimes
from edgekit_fpga.compiler.emit import emit
from edgekit_fpga.compiler.importer import Imported, import_model
from edgekit_fpga.compiler.proof import Proof, prove
from edgekit_fpga.compiler.views import lay_out
from edgekit_fpga.cycles import program_cycles
from edgekit_fpga.errors import BoardError, GraphError
from edgekit_fpga.manifest import MOST_CYCLES
from edgekit_fpga.package import FORMAT, Package, digests
from edgekit_fpga.program import Program

log = logging.getLogger(__name__)

Pass = Callable[[ir.Graph], ir.Graph]


def passes_for(board: Board) -> tuple[tuple[str, Pass], ...]:
    """The passes between import and allocation, in order, by name.

    Each leaves the values of all tensors that remain as they were: executing the graph
    (`compiler.execute`) before and after must agree.
    """
    return (
        ("fold", passes.fold),
        ("part-weights", passes.part_weights),
        ("expand-groups", passes.expand_groups),
        ("pools", lambda graph: passes.split_pools(graph, board.array.window_taps)),
        ("views", lambda graph: lay_out(graph, board.array.output_lanes)),
        ("order", passes.order),
        ("fuse", lambda graph: passes.fuse(graph, pools=board.array.pools)),
    )


def compile_model(
    model: bytes,
    board: str | Board = "ecp5-85f",
    *,
    integer_averages: bool = False,
    observe: Callable[[str, ir.Graph], None] | None = None,
) -> Package:
    """Compile an int8 ONNX model (QOperator or QDQ) for a board.

    Args:
        model: the ONNX file's bytes.
        board: the name of a board that comes with edgekit, or a board of your own.
        integer_averages: where ONNX Runtime rounds an AveragePool's ties by the order of a float
            sum, let the integer convolution with weights of one define it instead.
        observe: called with "import" and the graph, then with each pass and the graph behind it.

    Raises:
        GraphError: no ONNX model, or (`Refused`) one with nodes the NPU cannot run.
        BoardError: no such board, or the model does not fit it.
    """
    target = load_board(board) if isinstance(board, str) else board
    # scales may be anything a float32 holds; what becomes infinite is refused where it matters
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _compile(model, target, integer_averages, observe)


def _compile(
    model: bytes,
    target: Board,
    integer_averages: bool,
    observe: Callable[[str, ir.Graph], None] | None,
) -> Package:
    imported = import_model(model, integer_averages=integer_averages)
    graph = imported.graph
    steps = [("import", graph)]
    for name, transform in passes_for(target):
        graph = transform(graph)
        log.info("%s: %d layers", name, len(graph.layers))
        steps.append((name, graph))
    if observe:
        for step in steps:
            observe(*step)
    if not graph.layers:
        raise GraphError("nothing of the model runs on the NPU", "run it with ONNX Runtime")
    proof = prove(graph)
    program = emit(graph, allocate(graph, target), target)
    manifest = _manifest(model, imported, graph, program, proof)
    manifest["board"] = target.as_dict()
    estimate = program_cycles(program.instructions, target)
    if sum(estimate) > MOST_CYCLES:
        raise BoardError(
            f"a run would take {sum(estimate):,} cycles, most of them for weights to stream in",
            "use a board with more weight memory",
        )
    manifest["cycles"] = {"total": sum(estimate), "instructions": estimate}
    return Package(manifest, target, program, imported.before, imported.after)


def _manifest(
    model: bytes, imported: Imported, graph: ir.Graph, program: Program, proof: Proof
) -> dict[str, Any]:
    stages = [
        {"type": "cpu", "operations": len(imported.before)},
        {"type": "npu", "layers": len(graph.layers)},
        {"type": "cpu", "operations": len(imported.after)},
    ]
    kept = {name for layer in graph.layers for name in _named(layer)}
    kept |= {*graph.inputs, *graph.outputs}
    return {
        "format": FORMAT,
        "isa_version": isa.ISA_VERSION,
        "model": "sha256:" + hashlib.sha256(model).hexdigest(),
        "macs": imported.macs,
        "stages": [stage for stage in stages if any(v for k, v in stage.items() if k != "type")],
        "inputs": [
            {"name": name, "type": kind, "shape": list(shape)}
            for name, (kind, shape) in imported.inputs.items()
        ],
        "outputs": list(imported.outputs),
        "integer_averages": list(imported.integers),
        "before": [_operation(op) for op in imported.before],
        "after": [_operation(op) for op in imported.after],
        "tensors": {
            name: {
                "shape": list(graph.tensors[name].shape),
                "graph_shape": list(imported.shapes.get(name, graph.tensors[name].shape)),
                "scale": float(graph.tensors[name].quantization.scale),
                "zero_point": graph.tensors[name].quantization.graph_zero_point,
                "type": "uint8" if graph.tensors[name].quantization.unsigned else "int8",
            }
            for name in sorted(kept)
        },
        "npu": {
            "inputs": list(graph.inputs),
            "outputs": list(graph.outputs),
            "layers": len(graph.layers),
            "resident": program.resident,
            "placements": {name: vars(place) for name, place in program.placements.items()},
            "lifetimes": {name: list(span) for name, span in sorted(lifetimes(graph).items())},
            "traces": [vars(trace) for trace in program.traces],
        },
        "files": digests(program),
        "proof": proof.as_dict(),
    }


def _named(layer: ir.Layer) -> list[str]:
    post = layer.post
    parts = [post.lookup, post.residual, post.pool]
    return [layer.result, *(part.result for part in parts if part is not None)]


def _operation(operation: Any) -> dict[str, Any]:
    return {
        "operator": operation.operator,
        "inputs": list(operation.inputs),
        "output": operation.output,
        "attributes": dict(operation.attributes),
    }
