"""How the layers of a module image are made, each from its inputs alone."""

import hashlib
import importlib.util
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from edgekit.errors import ImageError
from edgekit.oci.descriptor import canonical_json
from edgekit.oci.layer import Entry, PinnedFile, file_digest
from edgekit.packager.store import Progress, Store

FORMAT = 1
# Weights hardly compress: the fastest level takes a fifth of the time for nearly the same size.
MODEL_LEVEL = 1
# Where it saves less than this share, a model is stored as it is: trained float32 weights save 7 %,
# which no line is worth the time for, and a device unpacks nothing.
MODEL_SAVING = 0.1
_SAMPLES, _SAMPLE_LENGTH = 4, 32 * 1024

RUNTIME = "opt/edgekit/runtime"
APP = "opt/edgekit/app"
MODEL = "opt/edgekit/model"
# folders of edgekit_fpga that make packages and hardware, and run neither
NOT_ON_A_DEVICE = ("compiler", "rtl", "simulate", "synthesis")


Kind = Literal["onnx", "npu", "file"]


@dataclass(frozen=True)
class PackagedModel:
    """The model version that goes into an image.

    Args:
        name: of the model in the registry.
        version: from 1.
        digest: of the file, `sha256:...`.
        file: of the model, or what finds it when it is needed: a model that is in the cache as a
            layer is not read again.
        inputs: name, datatype and shape of each, as plain values.
        outputs: the same.
        parents: the versions it was made from, nearest first, as `NAME:VERSION`; for its papers
            only, the image does not depend on them.
        kind: of the file: an ONNX model, an FPGA package, or what only a script can load.
        filename: what the file is called in the image; `model.KIND` where it is empty.
        others: what belongs to the file and lies beside it: path, file and digest of each.
    """

    name: str
    version: int
    digest: str
    file: Path | Callable[[], Path]
    inputs: tuple[Mapping[str, Any], ...] = ()
    outputs: tuple[Mapping[str, Any], ...] = ()
    parents: tuple[str, ...] = ()
    kind: Kind = "onnx"
    filename: str = ""
    others: tuple[tuple[str, Path | Callable[[], Path], str], ...] = ()

    @property
    def reference(self) -> str:
        """`NAME:VERSION`."""
        return f"{self.name}:{self.version}"

    @property
    def path(self) -> Path:
        """Where the file is."""
        return _found(self.file)

    @property
    def place(self) -> str:
        """What the file is called in the image."""
        return self.filename or f"model.{self.kind}"

    def describe(self) -> bytes:
        """What `model.json` in the image says."""
        return canonical_json(
            {
                "name": self.name,
                "version": self.version,
                "digest": self.digest,
                "inputs": [dict(each) for each in self.inputs],
                "outputs": [dict(each) for each in self.outputs],
            }
        )


class Recipe(Protocol):
    """How a layer is made; frozen, so that a plan stays what it was."""

    @property
    def name(self) -> str:
        """Who brings the layer: `base`, `wheels`, `runtime`, `app` or `model`."""
        ...

    def inputs(self) -> list[object]:
        """All that the layer's content depends on, as JSON."""
        ...

    def prepare(self, store: Store, progress: Progress | None) -> None:
        """Fetch what `entries` needs."""
        ...

    def entries(self, store: Store) -> list[Entry]:
        """The layer's files."""
        ...


@dataclass(frozen=True)
class Files:
    """The recipe of a layer of local files: the runtime, or the user's app.

    Args:
        name: of the layer.
        files: path in the image, where the file is, its digest.
    """

    name: str
    files: tuple[tuple[str, Path, str], ...]

    def inputs(self) -> list[object]:
        """Paths and digests."""
        return [FORMAT, [[path, digest] for path, _file, digest in self.files]]

    def prepare(self, _store: Store, _progress: Progress | None) -> None:
        """Nothing to fetch."""

    def entries(self, _store: Store) -> list[Entry]:
        """The files, checked to be the planned ones."""
        return [Entry(path, content=_checked(file, digest)) for path, file, digest in self.files]


@dataclass(frozen=True)
class ModelLayer:
    """The recipe of the model's layer.

    Args:
        model: the model version.
        compressible: whether compressing it is worth the time.
    """

    model: PackagedModel
    compressible: bool = True
    name: str = "model"

    def inputs(self) -> list[object]:
        """The model's digest and description, and what lies beside it."""
        usual = [FORMAT, self.model.digest, self.model.describe().decode()]
        others = [[path, digest] for path, _file, digest in self.model.others]
        return [*usual, self.model.place, others] if others or self.model.filename else usual

    def prepare(self, _store: Store, _progress: Progress | None) -> None:
        """Nothing to fetch."""

    def entries(self, _store: Store) -> list[Entry]:
        """The model, what belongs to it, `model.json`; each is checked to be the registered one."""
        files = ((self.model.place, self.model.file, self.model.digest), *self.model.others)
        return [
            *(
                Entry(f"{MODEL}/{path}", content=PinnedFile(_found(file), digest))
                for path, file, digest in files
            ),
            Entry(f"{MODEL}/model.json", content=self.model.describe()),
        ]


_RULE = [MODEL_LEVEL, MODEL_SAVING, _SAMPLES, _SAMPLE_LENGTH]


def model_layer(model: PackagedModel, store: Store) -> ModelLayer:
    """The recipe of a model's layer; whether it is compressed is decided once for a digest."""
    kept = store.read_record("models", model.digest.removeprefix("sha256:")) or {}
    if kept.get("rule") == _RULE and isinstance(kept.get("compresses"), bool):
        return ModelLayer(model, kept["compresses"])
    return ModelLayer(model, compresses(model.path))


def remember_compressible(layer: ModelLayer, store: Store) -> None:
    """Keep what was decided for a model, now that all of its file has been read and verified."""
    value = {"rule": _RULE, "compresses": layer.compressible}
    store.write_record("models", layer.model.digest.removeprefix("sha256:"), value)


def compresses(path: Path) -> bool:
    """Whether a model file saves more than `MODEL_SAVING` when compressed, judged by samples."""
    samples = []
    with path.open("rb") as file:
        length = path.stat().st_size
        for number in range(_SAMPLES):
            # not from the beginning, where the graph is and not its weights
            file.seek(length * (2 * number + 1) // (2 * _SAMPLES))
            samples.append(file.read(_SAMPLE_LENGTH))
    small = sum(len(zlib.compress(sample, MODEL_LEVEL)) for sample in samples)
    return small < sum(map(len, samples)) * (1 - MODEL_SAVING)


def runtime_files(kind: Kind = "onnx") -> Files:
    """The files of `edgekit_runtime` as it is installed here, with the driver of FPGA packages."""
    files = _installed("edgekit_runtime")
    if kind == "npu":
        files += _installed("edgekit_fpga", without=NOT_ON_A_DEVICE)
    return Files("runtime", files)


def _installed(name: str, without: tuple[str, ...] = ()) -> tuple[tuple[str, Path, str], ...]:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ImageError(f"{name} is not installed here", "install edgekit again")
    folder = Path(next(iter(spec.submodule_search_locations)))
    found = _tree(folder, f"{RUNTIME}/{name}")
    return tuple(each for each in found if each[1].relative_to(folder).parts[0] not in without)


def app_files(score: Path) -> Files:
    """The user's `score.py`.

    Raises:
        ImageError: it is not there, or is no Python.
    """
    try:
        compile(score.read_bytes(), str(score), "exec")
    except OSError as error:
        raise ImageError(f"cannot read {score}: {error.strerror}") from error
    except (SyntaxError, ValueError) as error:
        raise ImageError(f"{score} is no Python program: {error}") from error
    return Files("app", ((f"{APP}/score.py", score, file_digest(score)),))


def _found(file: Path | Callable[[], Path]) -> Path:
    return file if isinstance(file, Path) else file()


def _tree(folder: Path, target: str) -> tuple[tuple[str, Path, str], ...]:
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
            inner = path.relative_to(folder).as_posix()
            found.append((f"{target}/{inner}", path, file_digest(path)))
    return tuple(found)


def _checked(file: Path, digest: str) -> bytes:
    data = file.read_bytes()
    if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
        raise ImageError(f"{file} changed after the image was planned", "build again")
    return data
