"""ONNX Runtime without its chatter: sessions, and calls into its quantizer."""

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import onnxruntime

from edgekit.errors import ModelError

_log = logging.getLogger(__name__)
_FATAL = 4  # onnxruntime's scale: 0 verbose, 2 warning, 3 error, 4 fatal

Tensors = Mapping[str, npt.NDArray[np.generic]]


def session(
    model: bytes, *, threads: int = 0, optimize: bool = True
) -> onnxruntime.InferenceSession:
    """A session of `model` on the CPU that writes nothing to stderr.

    Args:
        model: a serialized ONNX graph.
        threads: threads of one operator; 0 for one a core.
        optimize: whether ONNX Runtime may rewrite the graph before it runs it.

    Raises:
        ModelError: ONNX Runtime cannot run the graph.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = threads
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base but Exception
        raise ModelError(f"ONNX Runtime cannot load the graph: {_first_line(error)}") from error


def run(
    running: onnxruntime.InferenceSession, inputs: Tensors, outputs: list[str] | None = None
) -> dict[str, npt.NDArray[np.generic]]:
    """The named outputs (all of the graph's, if none are named) for `inputs`.

    Raises:
        ModelError: the inputs do not fit the graph.
    """
    names = outputs or [output.name for output in running.get_outputs()]
    try:
        values = running.run(names, dict(inputs))
    except Exception as error:  # as in session()
        raise ModelError(f"ONNX Runtime cannot run the graph: {_first_line(error)}") from error
    return dict(zip(names, values, strict=True))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Turn what ONNX Runtime's quantizer prints or logs at the root into debug messages of ours."""

    def redirect(record: logging.LogRecord) -> bool:
        if "onnxruntime" not in record.pathname:
            return True
        _log.debug("%s", record.getMessage())
        return False

    root = logging.getLogger()
    had_handlers = bool(root.handlers)
    if not had_handlers:  # else logging.warning() would add one that writes to stderr
        root.addHandler(logging.NullHandler())
    root.addFilter(redirect)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.removeFilter(redirect)
        if not had_handlers:
            root.handlers.clear()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
