"""Loads a scoring script and calls its two functions.

The contract is that of Azure ML's inference server: `init()` is called once, with the model's
folder in `AZUREML_MODEL_DIR`; `run(data)` is called for each request with its body as text.
"""

import importlib.util
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit_runtime.errors import ModelError, ModuleError, RequestError
from edgekit_runtime.serving.about import ABOUT, read_about
from edgekit_runtime.serving.tensors import Array, TensorSpec

log = logging.getLogger(__name__)

MODEL_DIR = "AZUREML_MODEL_DIR"
_SCRIPT = "score.py"


class ScriptFailed(ModuleError):
    """The script's `run` raised, or returned what cannot be sent."""


@dataclass(frozen=True)
class Script:
    """A loaded script; its `init` has run. A model whose only request is `call`."""

    name: str
    version: str
    function: Callable[[str], Any]
    platform: str = "edgekit_script"
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()

    @classmethod
    def load(cls, app: Path, model: Path) -> "Script":
        """Import the script and call its `init`.

        Args:
            app: folder with `score.py`, and what it imports from beside it.
            model: folder with the model's files and `model.json`.

        Raises:
            ModelError: a file is missing, the script does not import or its `init` fails.
        """
        about = read_about(
            model / ABOUT, "EDGEKIT_MODEL names the folder with the model and model.json"
        )
        os.environ[MODEL_DIR] = str(model)
        path = app / _SCRIPT
        if not path.is_file():
            raise ModelError(f"{path} is not there", "build the image with a scoring script")
        module = _import(path)
        for name in ("init", "run"):
            if not callable(getattr(module, name, None)):
                raise ModelError(f"{path} has no {name}()", "define init() and run(data) in it")
        begin = time.perf_counter()
        try:
            module.init()
        except Exception as error:  # whatever a user's code raises
            log.exception("init() failed")
            raise ModelError(f"init() of {path} fails: {said(error)}", _remedy(error)) from error
        log.info("init() took %.2f s", time.perf_counter() - begin)
        return cls(str(about["name"]), str(about["version"]), module.run)

    def call(self, body: bytes) -> Any:
        """What `run` returns for a request.

        Raises:
            RequestError: the body is no text.
            ScriptFailed: `run` raises.
        """
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise RequestError("the body is no UTF-8 text") from error
        try:
            return self.function(text)
        except Exception as error:  # whatever a user's code raises
            log.exception("run() failed")
            raise ScriptFailed(f"run() failed: {said(error)}") from error

    def run(self, _feed: Mapping[str, Array], _names: Sequence[str]) -> Sequence[Array]:
        """Refuse: what a script takes are no tensors.

        Raises:
            RequestError: always.
        """
        raise RequestError(f"{self.name} is scored by a script: POST /score")


def said(error: Exception) -> str:
    """An exception of a user's code in one line: its kind and the first line it says."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def _import(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("score", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["score"] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's code raises
        log.exception("the script does not import")
        raise ModelError(f"{path} does not import: {said(error)}", _remedy(error)) from error
    return module


def _remedy(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"name what has {error.name} in the requirements.txt that the image is built with"
    return f"try it where the image is built; the model's folder is in {MODEL_DIR}"
