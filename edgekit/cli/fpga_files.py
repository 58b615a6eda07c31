"""What the FPGA commands read and write: models, packages' inputs and outputs, files whole."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from edgekit.errors import ModelError
from edgekit.wholefile import whole_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgekit.registry import ModelRef, Registry
    from edgekit_fpga import Package

PACKAGE = click.Path(dir_okay=False, path_type=Path)


def registered(model: str) -> "tuple[Registry, ModelRef] | None":
    """The registry and the reference that `model` is; None where it names a file.

    Raises:
        WorkspaceError: it is a reference, and there is no workspace here.
    """
    if Path(model).exists() or "/" in model or model.endswith(".onnx"):
        return None
    from edgekit.registry import ModelRef, Registry
    from edgekit.workspace import Workspace

    return Registry.open(Workspace.find()), ModelRef.parse(model)


def read_model(model: str) -> bytes:
    """The bytes of the model a command names: a path, or NAME:VERSION in the registry.

    Raises:
        ModelError: no such file.
        NotFound: no such version.
    """
    if named := registered(model):
        registry, ref = named
        return registry.model_bytes(ref)
    try:
        return Path(model).read_bytes()
    except OSError as error:
        raise ModelError(
            f"cannot read {model}: {error.strerror}", "name an int8 .onnx file"
        ) from error


def read_inputs(path: Path, package: "Package") -> "dict[str, NDArray[Any]]":
    """The arrays of an .npz file that the package takes.

    Raises:
        ModelError: no such file, or no .npz.
    """
    import zipfile

    import numpy as np

    wanted = {entry["name"] for entry in package.manifest["inputs"]}
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if name in wanted}
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no .npz file"
        raise ModelError(f"cannot read {path}: {reason}", "save inputs with numpy.savez") from error


def write_outputs(path: Path, outputs: "Mapping[str, NDArray[Any]]") -> None:
    """Write arrays by name as .npz.

    Raises:
        ModelError: the file cannot be written.
    """
    import numpy as np

    # the keyword names are the model's outputs
    write_file(path, lambda file: np.savez(file, **dict(outputs)))  # type: ignore[arg-type]


def write_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file whole or not at all.

    Raises:
        ModelError: the file cannot be written.
    """
    try:
        with whole_file(path) as file:
            write(file)
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Raises:
        ModelError: the file cannot be written.
    """
    write_file(path, lambda file: file.write(text.encode()))


def make_folder(path: Path) -> None:
    """Make a folder, unless it is there.

    Raises:
        ModelError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}") from error


def random_inputs(package: "Package", count: int, seed: int) -> "dict[str, NDArray[Any]]":
    """Inputs of the right shapes: over the whole range of what the first quantization can hold."""
    import numpy as np

    random: np.random.Generator = np.random.default_rng(seed)
    reach = {
        op.inputs[0]: op.attributes["scale"] * 160
        for op in package.before
        if "scale" in op.attributes
    }
    widest = max(reach.values(), default=1.0)
    made: dict[str, NDArray[Any]] = {}
    for entry in package.manifest["inputs"]:
        shape, kind = (count, *entry["shape"]), np.dtype(entry["type"])
        if kind.kind == "f":
            made[entry["name"]] = random.uniform(-widest, widest, shape).astype(kind)
        else:
            limits = np.iinfo(kind)
            made[entry["name"]] = random.integers(limits.min, limits.max + 1, shape, dtype=kind)
    return made
