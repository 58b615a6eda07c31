"""Where FPGA packages are on a device, and what each is called."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgekit_fpga.driver import FpgaError, Package, read_package
from edgekit_runtime.errors import ModelError
from edgekit_runtime.serving.about import ABOUT, read_about

PACKAGE = "model.npu"
REMEDY = "build the image again, or compile the model: edgekit fpga compile"


@dataclass(frozen=True)
class Source:
    """A file with a package.

    Attributes:
        path: of the package.
        name: of the model; empty where `about` says it.
        version: of the model; empty for the beginning of the package's digest.
        about: `model.json` with name, version and digest; None where there is none.
    """

    path: Path
    name: str = ""
    version: str = ""
    about: Path | None = None

    def signature(self) -> tuple[object, ...]:
        """Changes whenever a file does; files that are not there count as such."""
        return tuple(_signature(path) for path in (self.path, self.about) if path)

    def read(self) -> tuple[str, str, Package]:
        """The model's name, its version and the package.

        Raises:
            ModelError: a file is missing, damaged, or does not belong to the other.
        """
        try:
            package = read_package(self.path)
        except FpgaError as error:
            raise ModelError(str(error), error.hint) from error
        about = read_about(self.about, REMEDY, ()) if self.about else {}
        if "digest" in about and about["digest"] != package.digest:
            raise ModelError(f"{self.about} is about another package than {self.path}", REMEDY)
        name = self.name or str(about.get("name", ""))
        version = self.version or str(about.get("version", ""))
        if not name:
            raise ModelError(f"{self.about} has no name", REMEDY)
        return name, version or package.digest.removeprefix("sha256:")[:12], package


Sources = Callable[[], list[Source]]


def folder_sources(folder: Path) -> Sources:
    """What to serve from a folder, looked up anew at each call.

    The folder has `model.npu` and `model.json`, as in an image; or folders that do; or files
    `NAME.npu`.
    """

    def find() -> list[Source]:
        if (folder / PACKAGE).exists():
            return [Source(folder / PACKAGE, about=folder / ABOUT)]
        inner = sorted(folder.glob(f"*/{PACKAGE}"))
        plain = sorted(folder.glob("*.npu"))
        return [
            *(Source(path, about=path.with_name(ABOUT)) for path in inner),
            *(Source(path, name=path.stem) for path in plain),
        ]

    return find


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
