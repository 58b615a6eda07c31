"""From an int8 model version to an FPGA package in the registry."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import ModelError, NotFound
from edgekit.registry.artefacts import ArtefactQuery
from edgekit.registry.records import GraphRecord, ModelRef

if TYPE_CHECKING:
    from edgekit.registry import Registry
    from edgekit_fpga import Package


def package_fpga(
    registry: Registry, ref: ModelRef, board: str, *, integer_averages: bool = False
) -> tuple[Package, GraphRecord]:
    """Compile a registered int8 model for a board and keep the package with its lineage.

    Args:
        registry: where the model is, and the package will be.
        ref: the int8 version.
        board: a board that comes with edgekit, as `edgekit fpga boards` lists them.
        integer_averages: as `edgekit_fpga.compile_model`.

    Returns:
        The package, and its record with digest, cycle estimate and proof.

    Raises:
        NotFound: there is no such version.
        FpgaError: the NPU cannot run the model, or it does not fit the board.
    """
    from edgekit_fpga import compile_model

    model = registry.model_bytes(ref)
    package = compile_model(model, board, integer_averages=integer_averages)
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        path = Path(folder) / "package.npu"
        package.save(path)
        record = registry.record_graph(
            path,
            model=ref,
            board=board,
            cycles=package.manifest["cycles"]["total"],
            proof=package.manifest["proof"],
        )
    return package, record


def stored_package(registry: Registry, text: str) -> tuple[Path, GraphRecord]:
    """The newest FPGA package of a registered model version.

    Args:
        registry: where it is.
        text: `NAME:VERSION`, with `@BOARD` behind it where it was compiled for several boards.

    Returns:
        Its file and its record.

    Raises:
        NotFound: there is no such version, or it was not compiled.
        ModelError: it was compiled for several boards, and `text` names none.
    """
    name, _, board = text.partition("@")
    ref = registry.get(ModelRef.parse(name)).ref
    found = registry.graphs(ArtefactQuery(model=ref, board=board or None))
    if not found:
        raise NotFound(
            f"{ref} has no FPGA package" + (f" for {board}" if board else ""),
            f"edgekit fpga compile {ref} -o {ref.name}.npu",
        )
    boards = sorted({record.board for record in found})
    if len(boards) > 1:
        raise ModelError(
            f"{ref} was compiled for {', '.join(boards)}", f"name one: {ref}@{boards[0]}"
        )
    return registry.graph_file(found[-1]), found[-1]


def package_for(registry: Registry, ref: ModelRef, board: str) -> GraphRecord:
    """The record of a version's package for a board, which is compiled where there is none.

    Raises:
        NotFound, FpgaError: as `package_fpga`.
    """
    known = registry.graphs(ArtefactQuery(model=ref, board=board))
    return known[-1] if known else package_fpga(registry, ref, board)[1]
