"""A model folder, loaded by ONNX Runtime."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from edgekit_runtime.errors import ModelError, RequestError
from edgekit_runtime.serving.about import ABOUT, read_about
from edgekit_runtime.serving.tensors import Array, TensorSpec

# ONNX's name of a type -> the protocol's
DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


@dataclass(frozen=True)
class Model:
    """A loaded model. `run` may be called from several threads at once."""

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    session: ort.InferenceSession
    platform: str = "onnxruntime_onnx"

    @classmethod
    def load(cls, folder: Path, threads: int) -> "Model":
        """Load `model.onnx`; name and version come from `model.json` beside it.

        Raises:
            ModelError: files missing, not JSON, no ONNX, or types the protocol cannot carry.
        """
        about = read_about(
            folder / ABOUT, "EDGEKIT_MODEL names the folder with model.onnx and model.json"
        )
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

    def run(self, feed: Mapping[str, Array], names: Sequence[str]) -> Sequence[Array]:
        """The outputs called `names` for inputs that fit the model.

        Raises:
            RequestError: the model refuses the values.
        """
        try:
            arrays: list[Array] = self.session.run(list(names), dict(feed))
        except Exception as error:  # see load
            raise RequestError(f"the model refuses this input: {_first_line(error)}") from error
        return arrays


def _spec(node: Any) -> TensorSpec:
    shape = tuple(extent if isinstance(extent, int) else -1 for extent in node.shape)
    return TensorSpec(node.name, DATATYPES.get(node.type, node.type), shape)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
