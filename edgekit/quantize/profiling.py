"""How fast a graph answers on this machine, and how much memory it takes.

Measured in a process of its own, so that the memory is the graph's, and a graph that brings its
process down brings down nothing else.
"""

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import ModelError
from edgekit.quantize.report import latency
from edgekit.quantize.runtime import Tensors, session

_PROGRAM = "import sys; from edgekit.quantize import profiling; profiling.main(*sys.argv[1:])"
_TIMEOUT = 300  # seconds

# ONNX Runtime's names of element types that numpy calls otherwise
_DTYPES = {"float": "float32", "double": "float64"}


@dataclass(frozen=True)
class Profile:
    """What one call costs on a named machine.

    Args:
        p50: median latency of a call with a batch of one, in seconds.
        p99: 99th percentile of the same.
        memory: by how much loading and running raised the process's peak memory, in bytes.
        size: of the file, in bytes.
        threads: that ONNX Runtime used.
        machine: processor and number of cores.
        runtime: ONNX Runtime's version.
    """

    p50: float
    p99: float
    memory: int
    size: int
    threads: int
    machine: str
    runtime: str

    def as_dict(self) -> dict[str, Any]:
        """The profile as plain data, for JSON."""
        return asdict(self)


def profile(path: Path, *, inputs: Path | None = None, threads: int = 1) -> Profile:
    """Run the ONNX file some hundred times and measure it.

    Args:
        path: the graph.
        inputs: an .npz with an array for each input, whose first element is used; without one,
            random inputs with every unknown axis of length 1.
        threads: threads of one operator.

    Raises:
        ModelError: it does not load, does not run, or takes longer than five minutes.
    """
    command = [sys.executable, "-P", "-c", _PROGRAM, str(path), str(threads)]
    command += [str(inputs)] if inputs else []
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"the model took longer than {_TIMEOUT} seconds to profile") from error
    if done.returncode < 0:
        raise ModelError(f"signal {-done.returncode} killed the process that ran the model")
    answer = _answer(done.stdout)
    if done.returncode or answer is None:
        raise ModelError(
            f"the model cannot be profiled: {(answer or {}).get('error', 'its process failed')}",
            hint="give it fitting inputs: --input FILE.npz",
        )
    return Profile(**answer)


def machine() -> str:
    """The processor's model and the number of cores this process may use."""
    name = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model"):
                name = f"{value.strip()} ({platform.machine()})"
                break
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def random_inputs(specs: list[tuple[str, str, list[Any]]]) -> dict[str, npt.NDArray[np.generic]]:
    """A batch of one for each input: floats from 0 to 1, zeros of other types.

    Args:
        specs: ONNX Runtime's name, type (`tensor(float)`) and shape of each input.
    """
    rng = np.random.default_rng(0)
    made = {}
    for name, kind, shape in specs:
        axes = [axis if isinstance(axis, int) and axis > 0 else 1 for axis in shape]
        element = kind.removeprefix("tensor(").removesuffix(")")
        dtype = np.dtype(_DTYPES.get(element, "O" if element == "string" else element))
        if dtype.kind == "f":
            made[name] = rng.random(axes).astype(dtype)
        else:
            made[name] = np.full(axes, "" if dtype.kind == "O" else 0, dtype)
    return made


def _peak_memory() -> int:
    """The most memory this process has had resident, in bytes.

    Not getrusage's figure: that one begins with what the parent had when it made this process.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _answer(output: str) -> dict[str, Any] | None:
    try:
        answer = json.loads(output)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _measure(path: Path, threads: int, inputs: Path | None) -> Profile:
    import onnxruntime

    from edgekit.quantize.calibration import load_split

    data = path.read_bytes()
    before = _peak_memory()
    running = session(data, threads=threads)
    given: Tensors = (
        load_split(inputs)[0]
        if inputs
        else random_inputs([(i.name, i.type, i.shape) for i in running.get_inputs()])
    )
    seconds = latency(running, given)
    return Profile(
        p50=seconds.p50,
        p99=seconds.p99,
        memory=_peak_memory() - before,
        size=len(data),
        threads=threads,
        machine=machine(),
        runtime=onnxruntime.__version__,
    )


def main(path: str, threads: str, inputs: str | None = None) -> None:
    """What the process of its own does: measure, and write the profile to stdout as JSON."""
    try:
        measured = _measure(Path(path), int(threads), Path(inputs) if inputs else None)
    except (ModelError, OSError, TypeError) as error:
        sys.stdout.write(json.dumps({"error": " ".join(str(error).split())}))
        sys.exit(1)
    sys.stdout.write(json.dumps(measured.as_dict()))
