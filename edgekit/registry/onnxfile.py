"""Reads what the registry must know of an ONNX file, and refuses what is none.

The file may come from anywhere: it is never run, and read into memory only up to a limit.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError

from edgekit.errors import ModelError, RegistryError
from edgekit.registry.records import Signature, TensorSpec, check_path

# protobuf holds no message of 2 GiB, and an ONNX file is one message
MAX_BYTES = 2**31 - 1

# what an image keeps beside the graph, and calls the graph itself
_TAKEN = ("model.json", "model.onnx")


@dataclass(frozen=True)
class Contents:
    """What an ONNX file says of itself.

    Args:
        signature: its inputs and outputs.
        weights: path of each file with weights, from the ONNX file's folder, and the bytes that it
            must have at least.
    """

    signature: Signature
    weights: Mapping[str, int]


def read_contents(path: Path, shown: Path | None = None) -> Contents:
    """What the ONNX file at `path` says of itself; the files with its weights are not read.

    Args:
        path: the file to read.
        shown: what messages call it, where it is a copy of something else.

    Raises:
        ModelError: it is no ONNX, too large, or wants weights from outside its folder.
    """
    name = shown or path
    check_size(path)
    model = _load(path, name)
    constants = {value.name for value in model.graph.initializer}
    signature = Signature(
        tuple(_spec(value) for value in model.graph.input if value.name not in constants),
        tuple(_spec(value) for value in model.graph.output),
    )
    return Contents(signature, _weights(model, name))


def check_graph(path: Path, shown: Path | None = None) -> None:
    """Hold that the ONNX file is valid as a whole, with the files of its weights beside it.

    Raises:
        ModelError: it is not.
    """
    try:
        # by its path: a model given as an object is written out once more to be checked
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{shown or path} is no valid ONNX model: {_short(error)}", hint="export it again"
        ) from error


def read_whole(path: Path) -> bytes:
    """The model as one message, with the weights that are kept beside it taken in.

    Raises:
        ModelError: it is too large to be one message.
    """
    contents = read_contents(path)
    if not contents.weights:
        return path.read_bytes()
    total = path.stat().st_size + sum(
        (path.parent / each).stat().st_size for each in contents.weights
    )
    if total > MAX_BYTES:
        raise ModelError(
            f"{path.name} and its weights have {total:,} bytes; what computes on them takes at "
            f"most {MAX_BYTES:,}",
            hint="build an image from it as it is, or make it smaller",
        )
    model = onnx.load_model(path)
    data: bytes = model.SerializeToString()
    return data


def check_size(path: Path) -> None:
    """Hold that the file is not too large to be an ONNX file; it is not read.

    Raises:
        ModelError: it is.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ModelError(
            f"{path} has {size:,} bytes; an ONNX file has at most {MAX_BYTES:,}",
            hint="save it with its weights in another file: onnx.save_model(model, PATH, "
            "save_as_external_data=True)",
        )


def _load(path: Path, name: Path) -> onnx.ModelProto:
    try:
        model: onnx.ModelProto = onnx.load_model(path, format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise ModelError(
            f"{name} is no ONNX file, or is cut short",
            hint="export the model to ONNX, or name its --framework",
        ) from error
    if not model.HasField("graph"):
        raise ModelError(
            f"{name} is no ONNX file: it has no graph",
            hint="export the model to ONNX, or name its --framework",
        )
    return model


def _weights(model: onnx.ModelProto, name: Path) -> dict[str, int]:
    """The files that tensors are kept in, and the bytes that each must have."""
    found: dict[str, int] = {}
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
        try:
            check_path(place)
            end = int(entries.get("offset") or 0) + int(entries.get("length") or 0)
        except (RegistryError, ValueError) as error:
            raise ModelError(
                f"{name} does not say where the weights of {tensor.name[:200]} are",
                hint="export it again",
            ) from error
        if place in (*_TAKEN, name.name):
            raise ModelError(
                f"{name} keeps weights in a file called {place}, which images need themselves",
                hint="save it with another location for its external data",
            )
        found[place] = max(end, found.get(place, 0))
    return dict(sorted(found.items()))


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
