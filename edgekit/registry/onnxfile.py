"""Reads what the registry must know of an ONNX file, and refuses what is none.

The file may come from anywhere: it is never run, and read into memory only up to a limit.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError

from edgekit.errors import ModelError
from edgekit.registry.records import Signature, TensorSpec

# protobuf holds no message of 2 GiB, and an ONNX file is one message
MAX_BYTES = 2**31 - 1

_INLINE = "save the model as one file: onnx.save_model(onnx.load(PATH), 'one.onnx')"


def read_signature(path: Path, shown: Path | None = None) -> Signature:
    """The signature of the ONNX file at `path`, which is checked as a whole.

    Args:
        path: the file to read.
        shown: what messages call it, where it is a copy of something else.

    Raises:
        ModelError: it is no valid ONNX, too large, or has parts of itself in other files.
    """
    name = shown or path
    check_size(path)
    model = _load(path, name)
    _refuse_other_files(model, name)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{name} is no valid ONNX model: {_short(error)}", hint="export it again"
        ) from error
    constants = {value.name for value in model.graph.initializer}
    return Signature(
        tuple(_spec(value) for value in model.graph.input if value.name not in constants),
        tuple(_spec(value) for value in model.graph.output),
    )


def check_size(path: Path) -> None:
    """Hold that the file is not too large to be an ONNX file; it is not read.

    Raises:
        ModelError: it is.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ModelError(
            f"{path} has {size:,} bytes; an ONNX file has at most {MAX_BYTES:,}",
            hint="register it with its --framework, or make it smaller",
        )


def _load(path: Path, name: Path) -> onnx.ModelProto:
    try:
        model: onnx.ModelProto = onnx.load_model(path, format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise ModelError(
            f"{name} is no ONNX file", hint="export the model to ONNX, or name its --framework"
        ) from error
    if not model.HasField("graph"):
        raise ModelError(
            f"{name} is no ONNX file: it has no graph",
            hint="export the model to ONNX, or name its --framework",
        )
    return model


def _refuse_other_files(model: onnx.ModelProto, name: Path) -> None:
    in_functions = (node for function in model.functions for node in function.node)
    for tensor in (*_tensors(model.graph), *_in_nodes(in_functions)):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        place = entries.get("location", "")
        if PurePosixPath(place).is_absolute() or ".." in PurePosixPath(place).parts:
            raise ModelError(
                f"{name} wants the weights of {tensor.name} from outside its folder: {place[:200]}",
                hint="do not load this file where you do not know who made it",
            )
        raise ModelError(f"{name} keeps weights in another file: {place[:200]}", hint=_INLINE)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor with data in the graph and the graphs inside its nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _in_nodes(graph.node)


def _in_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.WhichOneof("value") or "unknown"
    if kind != "tensor_type":
        return TensorSpec(value.name, kind.removesuffix("_type"), ())
    tensor = value.type.tensor_type
    try:
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except (KeyError, ValueError):
        dtype = "unknown"
    return TensorSpec(
        value.name,
        "string" if tensor.elem_type == onnx.TensorProto.STRING else dtype,
        tuple(_axis(axis) for axis in tensor.shape.dim),
    )


def _axis(axis: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if axis.HasField("dim_value"):
        return axis.dim_value
    return axis.dim_param or None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
