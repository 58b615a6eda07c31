"""Taking the files of a version in: private copies are checked, then they are stored."""

from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import ModelError, RegistryError
from edgekit.registry.blobs import Incoming, Intake
from edgekit.registry.records import ModelFile, Role, Signature, check_labels, check_path
from edgekit.registry.scorefile import check_score

ONNX = "onnx"
SCORE, REQUIREMENTS = "score.py", "requirements.txt"


@dataclass(frozen=True)
class Sources:
    """The files that are to become a version.

    Args:
        path: the model's file; of ONNX, or of another framework.
        framework: `onnx`, or what else the file is for.
        score: the script that loads the model and answers requests, with `init()` and `run(data)`.
        requirements: what the script imports, as pip reads it.

    Raises:
        ModelError: a file is missing.
        RegistryError: a name is not well formed.
    """

    path: Path
    framework: str = ONNX
    score: Path | None = None
    requirements: Path | None = None

    def __post_init__(self) -> None:
        check_labels("framework", {self.framework: ""})
        for path in (self.path, self.score, self.requirements):
            if path is not None and not path.is_file():
                raise ModelError(f"there is no file {path}", hint="name an existing file")
        check_path(self.path.name)
        if self.requirements is not None and self.score is None:
            raise ModelError(
                f"nothing needs {self.requirements}: there is no scoring script",
                hint="name the script that does: --score score.py",
            )


@dataclass(frozen=True)
class Taken:
    """Files that were taken in and checked.

    Args:
        main: the model's file.
        signature: its inputs and outputs, where it is ONNX.
        others: what belongs to it, by path.
    """

    main: Incoming
    signature: Signature
    others: tuple[tuple[ModelFile, Incoming], ...]

    @property
    def incoming(self) -> tuple[Incoming, ...]:
        """The copies of all files."""
        return (self.main, *(copy for _file, copy in self.others))

    @property
    def files(self) -> tuple[ModelFile, ...]:
        """What belongs to the model's file, as it is recorded."""
        return tuple(file for file, _copy in self.others)


def take_in(sources: Sources, intake: Intake) -> Taken:
    """Copy the files into `intake` and check the copies.

    Raises:
        ModelError: the model is no valid ONNX, the script no scoring script, weights are missing.
        RegistryError: a file cannot be read, or two would have one name.
    """
    main, signature, others = _take_model(sources, intake)
    if sources.score is not None:
        others.append(_take(intake, sources.score, SCORE, "score"))
        check_score(others[-1][1].path, shown=sources.score)
    if sources.requirements is not None:
        others.append(_take(intake, sources.requirements, REQUIREMENTS, "requirements"))
    return Taken(main, signature, tuple(sorted(others, key=lambda other: other[0].path)))


_Others = list[tuple[ModelFile, Incoming]]


def _take_model(sources: Sources, intake: Intake) -> tuple[Incoming, Signature, _Others]:
    path = sources.path
    if sources.framework != ONNX:
        return intake.add(path, path.name), Signature((), ()), []
    from edgekit.registry.onnxfile import check_graph, check_size, read_contents  # slow to import

    check_size(path)  # before it is copied
    main = intake.add(path, path.name)
    contents = read_contents(main.path, shown=path)
    others = []
    for place, least in contents.weights.items():
        others.append(_take(intake, _beside(path, place, least), place, "weights"))
    check_graph(main.path, shown=path)
    return main, contents.signature, others


def _take(intake: Intake, source: Path, path: str, role: Role) -> tuple[ModelFile, Incoming]:
    try:
        copy = intake.add(source, path)
    except RegistryError as error:
        if isinstance(error.__cause__, FileExistsError):
            raise RegistryError(
                f"the version would have two files called {path}", hint=f"rename {source}"
            ) from error
        raise
    return ModelFile(path, role, copy.digest, copy.size), copy


def _beside(model: Path, place: str, least: int) -> Path:
    """The file with weights, which no link may lead out of the model's folder.

    Raises:
        ModelError: it is missing, elsewhere or too short.
    """
    folder, path = model.parent.resolve(), model.parent / place
    if not path.is_file():
        raise ModelError(
            f"{model} keeps weights in {place}, which is not beside it",
            hint=f"put {place} into {model.parent}",
        )
    if not path.resolve().is_relative_to(folder):
        raise ModelError(
            f"{model} wants weights from outside its folder: {place} leads to {path.resolve()}",
            hint="do not load this file where you do not know who made it",
        )
    size = path.stat().st_size
    if size < least:
        raise ModelError(
            f"{path} has {size:,} bytes, and {model.name} wants {least:,} of it",
            hint="it is cut short: copy or export it again",
        )
    return path
