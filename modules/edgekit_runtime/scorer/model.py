"""A model folder, loaded by ONNX Runtime and asked in the Open Inference Protocol V2."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from edgekit_runtime.errors import ModelError, RequestError
from edgekit_runtime.scorer.tensors import TensorSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Model:
    """A loaded model. `infer` may be called from several threads at once."""

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    session: ort.InferenceSession

    @classmethod
    def load(cls, folder: Path, threads: int) -> "Model":
        """Load `model.onnx`; name and version come from `model.json` beside it.

        Raises:
            ModelError: files missing, not JSON, no ONNX, or types the protocol cannot carry.
        """
        about = _about(folder / "model.json")
        graph = folder / "model.onnx"
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # a waiting thread must not take the core that the next request needs
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = ort.InferenceSession(
                str(graph), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime has a dozen classes with no common base
            raise ModelError(
                f"{graph} does not load: {_first_line(error)}",
                "build the image again from the registry",
            ) from error
        return cls(
            name=str(about["name"]),
            version=str(about["version"]),
            inputs=tuple(_spec(node) for node in session.get_inputs()),
            outputs=tuple(_spec(node) for node in session.get_outputs()),
            session=session,
        )

    def describe(self) -> dict[str, Any]:
        """The model's metadata, as the protocol has it."""
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": "onnxruntime_onnx",
            "inputs": [spec.describe() for spec in self.inputs],
            "outputs": [spec.describe() for spec in self.outputs],
        }

    def infer(self, request: Any) -> dict[str, Any]:
        """Answer one request, decoded from JSON; the `id` comes back unchanged.

        Raises:
            RequestError: the request does not fit the model; the message says in what.
        """
        if not isinstance(request, dict):
            raise RequestError("the request is not a JSON object")
        if not isinstance(request.get("id", ""), str):
            raise RequestError("id is not a string")
        feed = self._feed(request.get("inputs"))
        wanted = self._wanted(request.get("outputs"))
        try:
            arrays = self.session.run([spec.name for spec in wanted], feed)
        except Exception as error:  # see load
            raise RequestError(f"the model refuses this input: {_first_line(error)}") from error
        response: dict[str, Any] = {"model_name": self.name, "model_version": self.version}
        if "id" in request:
            response["id"] = request["id"]
        response["outputs"] = [spec.write(a) for spec, a in zip(wanted, arrays, strict=True)]
        return response

    def _feed(self, tensors: Any) -> dict[str, Any]:
        named = _by_name(tensors, "inputs")
        if missing := [spec.name for spec in self.inputs if spec.name not in named]:
            raise RequestError(f"input {missing[0]!r} is missing")
        if unknown := named.keys() - {spec.name for spec in self.inputs}:
            known = ", ".join(spec.name for spec in self.inputs)
            raise RequestError(f"no input {min(unknown)!r}; this model takes {known}")
        return {spec.name: spec.read(named[spec.name]) for spec in self.inputs}

    def _wanted(self, tensors: Any) -> tuple[TensorSpec, ...]:
        if not tensors:
            return self.outputs
        named = _by_name(tensors, "outputs")
        if unknown := named.keys() - {spec.name for spec in self.outputs}:
            known = ", ".join(spec.name for spec in self.outputs)
            raise RequestError(f"no output {min(unknown)!r}; this model gives {known}")
        return tuple(spec for spec in self.outputs if spec.name in named)


def _by_name(tensors: Any, what: str) -> dict[str, Mapping[str, Any]]:
    if not isinstance(tensors, list) or not tensors:
        raise RequestError(f"{what} is missing or not a list")
    named: dict[str, Mapping[str, Any]] = {}
    for tensor in tensors:
        if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
            raise RequestError(f"{what} needs objects with a name")
        if tensor["name"] in named:
            raise RequestError(f"{what} has {tensor['name']!r} twice")
        named[tensor["name"]] = tensor
    return named


def _spec(node: Any) -> TensorSpec:
    shape = tuple(extent if isinstance(extent, int) else -1 for extent in node.shape)
    return TensorSpec(node.name, node.type, shape)


def _about(path: Path) -> dict[str, Any]:
    remedy = "EDGEKIT_MODEL names the folder with model.onnx and model.json"
    try:
        about = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path} does not open: {error.strerror}", remedy) from error
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}", remedy) from error
    if not isinstance(about, dict) or not about.get("name") or not about.get("version"):
        raise ModelError(f"{path} has no name and version", remedy)
    return about


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
